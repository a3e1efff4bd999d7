#include "tools/run/option_syntax.h"

#include <sys/mount.h>
#include <sys/resource.h>

#include <catch2/catch.hpp>

using namespace layerfs;
using namespace layerfs::run;

TEST_CASE("option syntax: a volume has a source, a target and words") {
  const auto volume = parse_volume("data:/srv/data/:ro,rslave,noexec", "/here");
  REQUIRE(volume);
  CHECK(volume->source == "/here/data");
  CHECK(volume->target == "/srv/data");
  CHECK(volume->read_only);
  CHECK(volume->no_exec);
  CHECK(volume->propagation == MS_SLAVE);
}

TEST_CASE("option syntax: what is no volume is refused") {
  for (const char* text :
       {"/a", "/a:b", ":/b", "/a:/b:what", "/a:/", "/a:/b:ro:x", "/a:/b:rw,suidd", ""}) {
    INFO(text);
    const auto volume = parse_volume(text, "/");
    REQUIRE_FALSE(volume);
    CHECK(volume.error().code == ExitCode::Usage);
  }
}

TEST_CASE("option syntax: a tmpfs has a size and an octal mode") {
  const auto tmpfs = parse_tmpfs("/run:size=64m,mode=755,ro");
  REQUIRE(tmpfs);
  CHECK(tmpfs->source.empty());
  CHECK(tmpfs->tmpfs_size == "64m");
  CHECK(tmpfs->tmpfs_mode == 0755);
  CHECK(tmpfs->read_only);
  CHECK_FALSE(parse_tmpfs("/run:mode=999"));
  CHECK_FALSE(parse_tmpfs("run"));
}

TEST_CASE("option syntax: a resource limit has one number or two, soft not above hard") {
  const auto both = parse_ulimit("nofile=10:20");
  REQUIRE(both);
  CHECK(both->resource == RLIMIT_NOFILE);
  CHECK(both->soft == 10);
  CHECK(both->hard == 20);
  const auto one = parse_ulimit("core=-1");
  REQUIRE(one);
  CHECK(one->soft == RLIM_INFINITY);
  for (const char* text :
       {"nofile", "nofile=", "nofile=2:1", "nofile=1:2:3", "files=1", "cpu=1s"}) {
    INFO(text);
    CHECK_FALSE(parse_ulimit(text));
  }
}

TEST_CASE("option syntax: an environment file has values, comments and empty lines") {
  const auto found = parse_environment_file("# c\nA=1\r\n\n  B=two words\nC=\nNOT_SET_ANYWHERE\n");
  REQUIRE(found);
  CHECK(*found == std::vector<std::string>{"A=1", "B=two words", "C="});
  CHECK_FALSE(parse_environment_file("A=1\na name=2\n"));
  CHECK_FALSE(parse_environment_file("=x\n"));
}

TEST_CASE("option syntax: a port is HOST:CONTAINER with an address and a protocol") {
  const auto port = parse_port("127.0.0.1:8080:80/udp");
  REQUIRE(port);
  CHECK(port->address == "127.0.0.1");
  CHECK(port->host == 8080);
  CHECK(port->container == 80);
  CHECK(port->udp);
  REQUIRE(parse_port("80"));
  CHECK(parse_port("80")->host == 80);
  for (const char* text : {"", "0:80", "80:", "70000:1", "80/sctp", "x"}) {
    INFO(text);
    CHECK_FALSE(parse_port(text));
  }
}

TEST_CASE("run options: a rate is in bits, with powers of 1000") {
  CHECK(*parse_rate("10m") == 10'000'000);
  CHECK(*parse_rate("8000") == 8000);
  CHECK(*parse_rate("2g") == 2'000'000'000);
  for (const char* wrong : {"", "m", "10x", "-1m", "7999", "10mm", "99999999999999g"}) {
    CHECK_FALSE(parse_rate(wrong));
  }
}
