#include "tools/run/options.h"

#include <catch2/catch.hpp>

#include "tools/run/capabilities.h"

using namespace layerfs;
using namespace layerfs::run;

namespace {

Outcome<RunConfig> parse(const std::vector<std::string>& arguments) {
  RunOptions options;
  auto parsed = parse_arguments(options.describe(), arguments);
  if (!parsed) {
    return parsed.error();
  }
  return options.finish(parsed->positionals);
}

std::uint64_t cap(const char* name) { return *parse_capability(name); }

}  // namespace

TEST_CASE("run options: what follows the command is the command's") {
  const auto config = parse({"--layers", "/a:/b", "ls", "-l", "--layers", "-t"});
  REQUIRE(config);
  CHECK(config->layers == std::vector<std::string>{"/a", "/b"});
  CHECK(config->command == std::vector<std::string>{"ls", "-l", "--layers", "-t"});
  CHECK_FALSE(config->terminal);
}

TEST_CASE("run options: letters stand together, and the last may take a value") {
  const auto config = parse({"-tie", "A=-1", "-l/a", "-w", "/tmp", "--", "-x"});
  REQUIRE(config);
  CHECK(config->terminal);
  CHECK(config->interactive);
  CHECK(config->environment == std::vector<std::string>{"A=-1"});
  CHECK(config->workdir == "/tmp");
  CHECK(config->command == std::vector<std::string>{"-x"});
}

TEST_CASE("run options: no root, no command, and unknown words are usage errors") {
  using Words = std::vector<std::string>;
  for (const Words& words :
       {Words{"ls"}, Words{"--layers", "/a"}, Words{"--layer", "/a", "ls"}, Words{"-q", "ls"},
        Words{"--layers"}, Words{"--layers", "/a", "--net", "wifi", "ls"},
        Words{"--layers", "/a", "--cap-add", "flying", "ls"},
        Words{"--layers", "/a", "--name", "../x", "ls"},
        Words{"--layers", "/a", "--read-only=yes", "ls"}}) {
    INFO(Catch::rangeToString(words));
    const auto config = parse(words);
    REQUIRE_FALSE(config);
    CHECK(config.error().code == ExitCode::Usage);
  }
}

TEST_CASE("run options: capabilities are podman's eleven, plus and minus") {
  const auto plain = parse({"-l", "/a", "ls"});
  REQUIRE(plain);
  CHECK(__builtin_popcountll(plain->capabilities) == 11);
  CHECK((plain->capabilities & (cap("sys_admin") | cap("net_raw") | cap("mknod"))) == 0);
  const auto changed = parse({"-l", "/a", "--cap-add", "NET_RAW", "--cap-drop", "cap_chown", "ls"});
  REQUIRE(changed);
  CHECK((changed->capabilities & cap("net_raw")) != 0);
  CHECK((changed->capabilities & cap("chown")) == 0);
  const auto few = parse({"-l", "/a", "--cap-drop", "ALL", "--cap-add", "chown", "ls"});
  REQUIRE(few);
  CHECK(few->capabilities == cap("chown"));
}

TEST_CASE("run options: all namespaces are the container's own unless shared") {
  const auto plain = parse({"-l", "/a", "ls"});
  REQUIRE(plain);
  CHECK((plain->own.user && plain->own.pid && plain->own.net && plain->own.uts && plain->own.ipc &&
         plain->own.cgroup && plain->own.time));
  const auto shared = parse({"-l", "/a", "--share-net", "ls"});
  REQUIRE(shared);
  CHECK_FALSE(shared->own.net);
  CHECK(shared->network == Network::Host);
  const auto host = parse({"-l", "/a", "--net", "host", "ls"});
  REQUIRE(host);
  CHECK_FALSE(host->own.net);
}
