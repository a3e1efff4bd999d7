#include "layers/path_text.h"

#include <catch2/catch.hpp>

using namespace layerfs;
using namespace std::string_literals;

namespace {

std::vector<std::string> components(std::string_view value) {
  const auto parsed = parse_redirect(value);
  REQUIRE(parsed.ok());
  return *parsed;
}

}  // namespace

TEST_CASE("a component is any bytes but '/' and NUL, 1 to 255 of them, not . or ..") {
  for (const std::string& name :
       {"a"s, "..."s, ".a"s, "..a"s, " "s, "\xff\x01\n"s, ".wh.x"s, std::string(255, 'x')}) {
    CAPTURE(name);
    CHECK(is_valid_component(name));
  }
  for (const std::string& name :
       {""s, "."s, ".."s, "/"s, "a/b"s, "a/"s, "a\0b"s, "\0"s, std::string(256, 'x')}) {
    CAPTURE(name);
    CHECK_FALSE(is_valid_component(name));
  }
}

TEST_CASE("a redirect is one name, or a path from the root in components") {
  CHECK(components("name") == std::vector<std::string>{"name"});
  CHECK(components("/name") == std::vector<std::string>{"name"});
  CHECK(components("/a/b/c") == std::vector<std::string>{"a", "b", "c"});
  CHECK(components("/...") == std::vector<std::string>{"..."});
  CHECK(is_absolute_redirect("/name"));
  CHECK_FALSE(is_absolute_redirect("name"));
}

TEST_CASE("a redirect that is no proper path is EIO") {
  for (const std::string& value :
       {""s, "/"s, "//"s, "//a"s, "/a//b"s, "/a/"s, "a/b"s, "a/"s, "."s, ".."s, "/.."s, "/a/../b"s,
        "/a/."s, "./a"s, "/a\0b"s, "a\0"s, "/" + std::string(256, 'x'), std::string(256, 'x')}) {
    CAPTURE(value);
    const auto parsed = parse_redirect(value);
    REQUIRE_FALSE(parsed.ok());
    CHECK(parsed.error() == Errno(EIO));
  }
}

TEST_CASE("join puts one '/' between components and none around them") {
  CHECK(join(std::vector<std::string>{}).empty());
  CHECK(join(std::vector<std::string>{"a"}) == "a");
  CHECK(join(std::vector<std::string>{"a", "b", "c"}) == "a/b/c");
  CHECK(join("a/b", "c") == "a/b/c");
  CHECK(join("", "c") == "c");
  CHECK(join("a", "") == "a");
  CHECK(join("/", "c") == "/c");
}
