#include "tools/common/command_line.h"

#include <catch2/catch.hpp>

using namespace layerfs;
using Strings = std::vector<std::string>;

namespace {

// Records what was applied, as "name" or "name=value".
struct Recorder {
  Strings seen;
  Option option(std::string name, char letter, std::string value, std::string optional = "") {
    return {.name = name,
            .letter = letter,
            .value = value,
            .optional = std::move(optional),
            .help = "Help of " + name + ".",
            .apply = [this, name, value](std::string_view given) -> Outcome<void> {
              seen.push_back(value.empty() ? name : name + "=" + std::string(given));
              if (given == "bad") {
                return usage_error("it is bad");
              }
              return {};
            }};
  }
  Command command() {
    return {.program = "prog",
            .usage = {"ARG...", "--other ARG"},
            .summary = "Does it.",
            .groups = {
                {"Group",
                 {option("flag", 'f', ""), option("value", 'o', "V"), option("plain", '\0', "V")}},
                {"More", {option("watch", '\0', "S", "2")}}}};
  }
};

}  // namespace

TEST_CASE("options are applied in the order given, positionals kept in theirs") {
  Recorder recorder;
  const auto parsed = parse_arguments(
      recorder.command(), Strings{"a", "--value", "1", "-f", "b", "--plain=x=y", "-o2", "-o", "3"});
  REQUIRE(parsed);
  CHECK(parsed->positionals == Strings{"a", "b"});
  CHECK(recorder.seen == Strings{"value=1", "flag", "plain=x=y", "value=2", "value=3"});
}

TEST_CASE("after -- everything is positional") {
  Recorder recorder;
  const auto parsed =
      parse_arguments(recorder.command(), Strings{"-f", "--", "--value", "-x", "--"});
  REQUIRE(parsed);
  CHECK(parsed->positionals == Strings{"--value", "-x", "--"});
  CHECK(recorder.seen == Strings{"flag"});
}

TEST_CASE("brackets, commas and braces in arguments mean nothing") {
  Recorder recorder;
  const auto parsed =
      parse_arguments(recorder.command(), Strings{"[a,b]", "--value", "[c,d]", "{e}", "-", "++x"});
  REQUIRE(parsed);
  CHECK(parsed->positionals == Strings{"[a,b]", "{e}", "-", "++x"});
  CHECK(recorder.seen == Strings{"value=[c,d]"});
}

TEST_CASE("a value may begin with a dash") {
  Recorder recorder;
  REQUIRE(parse_arguments(recorder.command(), Strings{"--value", "-1"}));
  CHECK(recorder.seen == Strings{"value=-1"});
}

TEST_CASE("an optional value is taken only if it is a number") {
  Recorder recorder;
  auto parsed = parse_arguments(recorder.command(), Strings{"--watch", "/mnt"});
  REQUIRE(parsed);
  CHECK(parsed->positionals == Strings{"/mnt"});
  CHECK(recorder.seen == Strings{"watch=2"});
  recorder.seen.clear();
  parsed = parse_arguments(recorder.command(), Strings{"--watch", "0.5", "/mnt"});
  REQUIRE(parsed);
  CHECK(parsed->positionals == Strings{"/mnt"});
  CHECK(recorder.seen == Strings{"watch=0.5"});
  recorder.seen.clear();
  REQUIRE(parse_arguments(recorder.command(), Strings{"--watch=7"}));
  REQUIRE(parse_arguments(recorder.command(), Strings{"/mnt", "--watch"}));
  CHECK(recorder.seen == Strings{"watch=7", "watch=2"});
}

TEST_CASE("what is not understood is a usage error that names it") {
  const auto message = [](Strings arguments) {
    Recorder recorder;
    const auto parsed = parse_arguments(recorder.command(), arguments);
    REQUIRE(!parsed);
    CHECK(parsed.error().code == ExitCode::Usage);
    return parsed.error().message;
  };
  CHECK(message({"--nope"}) == "unknown option '--nope'");
  CHECK(message({"-z"}) == "unknown option '-z'");
  CHECK(message({"--value"}) == "option --value needs a value");
  CHECK(message({"--value=", "x"}) == "option --value has an empty value");
  CHECK(message({"--flag=1"}) == "option --flag takes no value");
  CHECK(message({"-o", "bad"}) == "-o: it is bad");
  CHECK(message({"--plain", "bad"}) == "--plain: it is bad");
}

TEST_CASE("--help wins over everything else and applies nothing") {
  Recorder recorder;
  for (const char* help : {"--help", "-h"}) {
    const auto parsed = parse_arguments(recorder.command(), Strings{"-f", "--value", "bad", help});
    REQUIRE(parsed);
    CHECK(parsed->help);
  }
  CHECK(recorder.seen.empty());
}

TEST_CASE("help names every option and none is wider than the page") {
  Recorder recorder;
  const Command command = recorder.command();
  const std::string text = help_text(command);
  for (const std::string& name : option_names(command)) {
    CHECK(text.find(name) != std::string::npos);
  }
  CHECK(text.find("Usage: prog ARG...\n       prog --other ARG\n") == 0);
  CHECK(text.find("  -o, --value V ") != std::string::npos);
  CHECK(text.find("--watch [S]") != std::string::npos);
}
