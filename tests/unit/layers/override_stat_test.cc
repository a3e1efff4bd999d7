#include "layers/override_stat.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <catch2/catch.hpp>

using namespace layerfs;
using namespace std::string_literals;

namespace {

struct Case {
  const char* text = nullptr;
  OverrideStat stat;
};

OverrideStat parsed(std::string_view text) {
  CAPTURE(text);
  const auto stat = parse_override_stat(text);
  REQUIRE(stat.ok());
  return *stat;
}

}  // namespace

TEST_CASE("override_stat is written and read as containers/storage does, every type") {
  // The values on the left are what FormatContainersOverrideXattrDevice yields.
  const Case cases[] = {
      {"0:0:0755:dir", {0, 0, S_IFDIR | 0755, 0}},
      {"1000:100:0644:file", {1000, 100, S_IFREG | 0644, 0}},
      {"0:0:4755:file", {0, 0, S_IFREG | S_ISUID | 0755, 0}},
      {"0:0:1777:dir", {0, 0, S_IFDIR | S_ISVTX | 0777, 0}},
      {"0:0:2000:dir", {0, 0, S_IFDIR | S_ISGID, 0}},
      {"0:0:0000:file", {0, 0, S_IFREG, 0}},
      {"0:0:0777:symlink", {0, 0, S_IFLNK | 0777, 0}},
      {"0:0:0600:pipe", {0, 0, S_IFIFO | 0600, 0}},
      {"0:0:0600:socket", {0, 0, S_IFSOCK | 0600, 0}},
      {"0:6:0660:block-8-17", {0, 6, S_IFBLK | 0660, makedev(8, 17)}},
      {"0:0:0666:char-1-3", {0, 0, S_IFCHR | 0666, makedev(1, 3)}},
      {"4294967294:4294967294:0600:char-4095-1048575",
       {4294967294, 4294967294, S_IFCHR | 0600, makedev(4095, 1048575)}},
  };
  for (const Case& c : cases) {
    CAPTURE(c.text);
    CHECK(parsed(c.text) == c.stat);
    CHECK(format_override_stat(c.stat) == c.text);
  }
}

TEST_CASE("without a type field the mode has no type, and none is written") {
  CHECK(parsed("5:6:755") == OverrideStat{5, 6, 0755, 0});
  CHECK_FALSE(parsed("5:6:755").has_type());
  CHECK(parsed("5:6:755:dir").has_type());
  CHECK(format_override_stat({5, 6, 0755, 0}) == "5:6:0755");
}

TEST_CASE("values of fuse-overlayfs are read: %d ids, no padding, type bits in the mode") {
  CHECK(parsed("-2:-294967296:644") == OverrideStat{4294967294, 4000000000, 0644, 0});
  CHECK(parsed("0:0:100644") == OverrideStat{0, 0, 0644, 0});
  CHECK(parsed("0:0:40755") == OverrideStat{0, 0, 0755, 0});
  CHECK(parsed("0:0:0") == OverrideStat{0, 0, 0, 0});
}

TEST_CASE("what follows a known type is ignored, for values of later versions") {
  CHECK(parsed("0:0:644:file:more:fields") == OverrideStat{0, 0, S_IFREG | 0644, 0});
  CHECK(parsed("0:0:644:dir-x") == OverrideStat{0, 0, S_IFDIR | 0644, 0});
  CHECK(parsed("0:0:644:char-1-3-9") == OverrideStat{0, 0, S_IFCHR | 0644, makedev(1, 3)});
}

TEST_CASE("a malformed override_stat is EINVAL, not absent") {
  for (const std::string& text : {""s,
                                  "0"s,
                                  "0:0"s,
                                  "0:0:"s,
                                  ":0:755"s,
                                  "0::755"s,
                                  "a:0:755"s,
                                  "0:0:8"s,
                                  "0:0:0x1"s,
                                  " 0:0:755"s,
                                  "0:0:755 "s,
                                  "0:0:755\n"s,
                                  "0:0:755\0"s,
                                  "+1:0:755"s,
                                  "0:0:-1"s,
                                  "4294967296:0:755"s,
                                  "4294967295:0:755"s,
                                  "0:4294967295:755"s,
                                  "-1:0:755"s,
                                  "0:-1:755"s,
                                  "-2147483649:0:755"s,
                                  "--2:0:755"s,
                                  "0:0:200000"s,
                                  "0:0:37777777777"s,
                                  "0:0:755:"s,
                                  "0:0:755:door"s,
                                  "0:0:755:block"s,
                                  "0:0:755:block-8"s,
                                  "0:0:755:block-8-"s,
                                  "0:0:755:block--1"s,
                                  "0:0:755:blocks-8-1"s,
                                  "0:0:755:char-4096-0"s,
                                  "0:0:755:char-0-1048576"s,
                                  "0:0:755:char-x-1"s,
                                  "0:0:755:char:1:3"s}) {
    CAPTURE(text);
    const auto stat = parse_override_stat(text);
    REQUIRE_FALSE(stat.ok());
    CHECK(stat.error() == Errno(EINVAL));
  }
}
