// Renames: the flags, directories of lower layers, and what lies at the new name.
#include <fcntl.h>
#include <linux/fs.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <cstdio>
#include <filesystem>

#include "tests/testlib/test_mount.h"

using namespace layerfs::testing;

namespace {

using Names = std::vector<std::string>;

int rename_errno(const std::string& from, const std::string& to, unsigned flags = 0) {
  return ::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), flags) == 0 ? 0 : errno;
}

}  // namespace

TEST_CASE("a lower file renamed over a name replaces it for good") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  TestMount mount(2);
  write_file(mount.lower(1) + "/from", "moved");
  bool whiteout_before = false;
  SECTION("nothing there") {}
  SECTION("a lower file there") { write_file(mount.lower(1) + "/to", "old"); }
  SECTION("a whiteout there") {
    write_file(mount.lower(1) + "/to", "old");
    whiteout_before = true;
  }
  mount.mount("--io " + io);
  if (whiteout_before) {
    REQUIRE(::unlink(mount.at("to").c_str()) == 0);
  }
  CHECK(rename_errno(mount.at("from"), mount.at("to")) == 0);
  for (int pass = 0; pass < 2; ++pass) {
    CAPTURE(pass);
    CHECK(names_in(mount.at("")) == Names{"to"});
    CHECK_FALSE(exists(mount.at("from")));
    CHECK(read_file(mount.at("to")) == "moved");
    mount.remount();
  }
  CHECK(read_file(mount.lower(1) + "/from") == "moved");
}

TEST_CASE("RENAME_NOREPLACE refuses an existing name and RENAME_WHITEOUT is EINVAL", "[S-11]") {
  TestMount mount;
  write_file(mount.lower() + "/a", "a");
  write_file(mount.lower() + "/b", "b");
  mount.mount("");
  CHECK(rename_errno(mount.at("a"), mount.at("b"), RENAME_NOREPLACE) == EEXIST);
  CHECK(rename_errno(mount.at("a"), mount.at("c"), RENAME_WHITEOUT) == EINVAL);
  CHECK(read_file(mount.at("a")) == "a");
  CHECK(read_file(mount.at("b")) == "b");
  CHECK(rename_errno(mount.at("a"), mount.at("c"), RENAME_NOREPLACE) == 0);
  CHECK(names_in(mount.at("")) == Names{"b", "c"});
}

TEST_CASE("RENAME_EXCHANGE swaps lower objects of any type, through a remount") {
  TestMount mount;
  write_file(mount.lower() + "/f", "file");
  make_dirs(mount.lower() + "/d");
  write_file(mount.lower() + "/d/in", "in");
  mount.mount("");
  CHECK(rename_errno(mount.at("f"), mount.at("d"), RENAME_EXCHANGE) == 0);
  for (int pass = 0; pass < 2; ++pass) {
    CAPTURE(pass);
    CHECK(read_file(mount.at("d")) == "file");
    CHECK(names_in(mount.at("f")) == Names{"in"});
    mount.remount();
  }
  CHECK(rename_errno(mount.at("f"), mount.at("none"), RENAME_EXCHANGE) == ENOENT);
}

TEST_CASE("a lower directory moves with all it holds, again and again") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  TestMount mount(2);
  make_dirs(mount.lower(0) + "/d/sub");
  make_dirs(mount.lower(1) + "/d/sub");
  write_file(mount.lower(0) + "/d/sub/top", "top");
  write_file(mount.lower(1) + "/d/sub/bottom", "bottom");
  mount.mount("--io " + io);
  CHECK(rename_errno(mount.at("d"), mount.at("e")) == 0);
  make_dirs(mount.at("p"));
  mount.remount();
  CHECK(rename_errno(mount.at("e"), mount.at("p/g")) == 0);
  CHECK(rename_errno(mount.at("p/g/sub"), mount.at("s")) == 0);
  make_dirs(mount.at("d"));
  for (int pass = 0; pass < 2; ++pass) {
    CAPTURE(pass);
    CHECK(names_in(mount.at("")) == Names{"d", "p", "s"});
    CHECK(names_in(mount.at("d")).empty());
    CHECK(names_in(mount.at("p/g")).empty());
    CHECK(names_in(mount.at("s")) == Names{"bottom", "top"});
    CHECK(read_file(mount.at("s/bottom")) == "bottom");
    mount.remount();
  }
}

TEST_CASE("a redirect is followed through an upper that became a lower") {
  TestMount mount(3);  // the topmost is made from the first mount's upper
  make_dirs(mount.lower(2) + "/d");
  write_file(mount.lower(2) + "/d/f", "data");
  mount.mount("");
  CHECK(rename_errno(mount.at("d"), mount.at("e")) == 0);
  mount.unmount();
  std::filesystem::remove(mount.lower(0));
  std::filesystem::rename(mount.upper(), mount.lower(0));
  make_dirs(mount.upper());
  mount.mount("");
  CHECK(names_in(mount.at("")) == Names{"e"});
  CHECK(rename_errno(mount.at("e"), mount.at("g")) == 0);
  mount.remount();
  CHECK(names_in(mount.at("")) == Names{"g"});
  CHECK(read_file(mount.at("g/f")) == "data");
}

TEST_CASE("with --redirect off a lower directory is EXDEV to rename and mv copies it", "[S-06]") {
  TestMount mount;
  make_dirs(mount.lower() + "/d");
  write_file(mount.lower() + "/d/f", "data");
  mount.mount("--redirect off");
  CHECK(rename_errno(mount.at("d"), mount.at("e")) == EXDEV);
  CHECK(read_file(mount.at("d/f")) == "data");
  const CommandResult moved = run("mv " + mount.at("d") + " " + mount.at("e"));
  CHECK(moved.output.empty());
  CHECK(moved.code == 0);
  mount.remount();
  CHECK(names_in(mount.at("")) == Names{"e"});
  CHECK(read_file(mount.at("e/f")) == "data");
}

TEST_CASE("a rename onto another name of the same file changes nothing") {
  TestMount mount;
  write_file(mount.lower() + "/a", "one");
  REQUIRE(::link((mount.lower() + "/a").c_str(), (mount.lower() + "/b").c_str()) == 0);
  mount.mount("");
  CHECK(rename_errno(mount.at("a"), mount.at("b")) == 0);
  CHECK(names_in(mount.at("")) == Names{"a", "b"});
}

TEST_CASE("the names of a symlink that no index holds stay one, whichever is renamed or removed",
          "[S-08]") {
  TestMount mount;
  const auto lower = [&](const char* name) { return mount.lower() + "/" + name; };
  REQUIRE(::symlink("target", lower("a").c_str()) == 0);
  make_dirs(lower("d"));
  for (const char* name : {"b", "d/c", "e"}) {
    REQUIRE(::link(lower("a").c_str(), lower(name).c_str()) == 0);
  }
  mount.mount("--xattr user");
  const auto owner = [&](const char* name) { return stat_of(mount.at(name)).st_uid; };
  for (const char* name : {"a", "b", "d/c", "e"}) {
    CHECK(owner(name) == 0);
  }
  REQUIRE(::lchown(mount.at("b").c_str(), 5, 5) == 0);
  CHECK(rename_errno(mount.at("a"), mount.at("moved")) == 0);
  CHECK(rename_errno(mount.at("d/c"), mount.at("d/moved")) == 0);
  REQUIRE(::unlink(mount.at("e").c_str()) == 0);
  REQUIRE(::lchown(mount.at("d/moved").c_str(), 6, 6) == 0);
  const bool again = GENERATE(false, true);
  if (again) {
    mount.remount();
  }
  CHECK(names_in(mount.at("")) == Names{"b", "d", "moved"});
  for (const char* name : {"b", "moved", "d/moved"}) {
    CAPTURE(name, again);
    CHECK(owner(name) == 6);
    CHECK(stat_of(mount.at(name)).st_nlink == 3);
  }
}

TEST_CASE("a directory replaces an empty directory only") {
  TestMount mount;
  make_dirs(mount.lower() + "/a/in");
  make_dirs(mount.lower() + "/full/x");
  make_dirs(mount.lower() + "/emptied/x");
  mount.mount("");
  CHECK(rename_errno(mount.at("a"), mount.at("full")) == ENOTEMPTY);
  REQUIRE(::rmdir(mount.at("emptied/x").c_str()) == 0);
  CHECK(rename_errno(mount.at("a"), mount.at("emptied")) == 0);
  mount.remount();
  CHECK(names_in(mount.at("emptied")) == Names{"in"});
}
