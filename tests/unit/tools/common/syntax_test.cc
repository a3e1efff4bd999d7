#include "tools/common/syntax.h"

#include <catch2/catch.hpp>

using namespace layerfs;
using Strings = std::vector<std::string>;

TEST_CASE("a backslash before colon, backslash or comma stands for that character") {
  CHECK(unescape_path(R"(a\:b)") == "a:b");
  CHECK(unescape_path(R"(a\\b)") == R"(a\b)");
  CHECK(unescape_path(R"(a\,b)") == "a,b");
  CHECK(unescape_path(R"(\\\:)") == R"(\:)");
}

TEST_CASE("any other backslash stands for itself") {
  CHECK(unescape_path(R"(a\b)") == R"(a\b)");
  CHECK(unescape_path(R"(a\)") == R"(a\)");
}

TEST_CASE("layers are split at colons that are not escaped") {
  CHECK(*split_layers("/a:/b:c") == Strings{"/a", "/b", "c"});
  CHECK(*split_layers(R"(/a\:b:/c)") == Strings{"/a:b", "/c"});
  CHECK(*split_layers(R"(/a\\:/c)") == Strings{R"(/a\)", "/c"});
  CHECK(*split_layers(R"(/a\\\:/c)") == Strings{R"(/a\:/c)"});
  CHECK(*split_layers(R"(/a:\)") == Strings{"/a", R"(\)"});
  CHECK(*split_layers(R"(/a\:)") == Strings{"/a:"});
}

TEST_CASE("an empty layer name is a usage error wherever it stands") {
  for (const char* text : {"", ":", "a:", ":a", "a::b", "a:b:"}) {
    INFO(text);
    const auto split = split_layers(text);
    REQUIRE(!split);
    CHECK(split.error().code == ExitCode::Usage);
  }
}

TEST_CASE("five hundred layers keep their order") {
  std::string text;
  for (int i = 0; i < 500; ++i) {
    text += (i == 0 ? "/l" : ":/l") + std::to_string(i);
  }
  const auto split = split_layers(text);
  REQUIRE(split->size() == 500);
  CHECK(split->front() == "/l0");
  CHECK(split->back() == "/l499");
}

TEST_CASE("mount words: keys, values, empty items") {
  const auto words = split_mount_words(",ro,,lowerdir=/a=b:/c,x=,");
  REQUIRE(words);
  CHECK(*words ==
        std::vector<MountWord>{{"ro", "", false}, {"lowerdir", "/a=b:/c", true}, {"x", "", true}});
}

TEST_CASE("a comma in quotes or after a backslash does not end a word") {
  CHECK(*split_mount_words(R"(context="a,b",ro)") ==
        std::vector<MountWord>{{"context", "a,b", true}, {"ro", "", false}});
  CHECK(*split_mount_words(R"(upperdir=/a\,b,ro)") ==
        std::vector<MountWord>{{"upperdir", R"(/a\,b)", true}, {"ro", "", false}});
  CHECK(*split_mount_words(R"(upperdir="/a"b)") ==
        std::vector<MountWord>{{"upperdir", "/ab", true}});
  CHECK(*split_mount_words(R"(upperdir=/a\"b,ro)") ==
        std::vector<MountWord>{{"upperdir", "/a\"b", true}, {"ro", "", false}});
}

TEST_CASE("a quote that is not closed is a usage error") {
  CHECK(!split_mount_words(R"(lowerdir="/a,ro)"));
}

TEST_CASE("id mappings: with and without the leading colon") {
  const std::vector<IdRange> expected = {{0, 1000, 1}, {1, 110000, 65536}};
  CHECK(*parse_id_map("0:1000:1:1:110000:65536") == expected);
  CHECK(*parse_id_map(":0:1000:1:1:110000:65536") == expected);
}

TEST_CASE("id mappings that are refused") {
  for (const char* text :
       {"", ":", "0", "0:1", "0:1:", "0:1:2:3", "a:b:c", "0:1:-1", "::0:1:2", "0:0:0",
        "4294967295:0:1", "0:4294967290:6", "0:0:4294967296", "0:0:10:5:100:1", "0:0:10:20:5:1"}) {
    INFO(text);
    CHECK(!parse_id_map(text));
  }
}

TEST_CASE("an id mapping may hold every id but the one that means none") {
  CHECK(*parse_id_map("0:0:4294967295") == std::vector<IdRange>{{0, 0, 4294967295U}});
}

TEST_CASE("numbers are taken whole or not at all") {
  CHECK(*parse_id("4294967294") == 4294967294LL);
  CHECK(!parse_id("4294967295"));
  CHECK(!parse_id("-1"));
  CHECK(!parse_id("1x"));
  CHECK(!parse_id(""));
  CHECK(*parse_int("4", 0, 8) == 4);
  CHECK(!parse_int("9", 0, 8));
  CHECK(!parse_int("+4", 0, 8));
  CHECK(*parse_seconds("0.5") == 0.5);
  CHECK(*parse_seconds("0") == 0);
  for (const char* text : {"-1", "-0", "nan", "inf", "1s", "", " 1"}) {
    INFO(text);
    CHECK(!parse_seconds(text));
  }
}

TEST_CASE("a size has a unit of 1024") {
  CHECK(*parse_size("512m") == 512ULL << 20);
  CHECK(*parse_size("1G") == 1ULL << 30);
  CHECK(*parse_size("7") == 7);
  for (const char* text : {"", "m", "1x", "-1", "1.5g", "k", " 1", "9999999999t"}) {
    INFO(text);
    CHECK_FALSE(parse_size(text));
  }
}

TEST_CASE("switches") {
  CHECK(*parse_switch("on"));
  CHECK(!*parse_switch("0"));
  CHECK(!parse_switch("maybe"));
}
