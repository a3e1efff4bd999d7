// Deletions: every form read from every layer, and what the upper is given.
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "tests/testlib/test_mount.h"

using namespace layerfs::testing;

namespace {

using Names = std::vector<std::string>;

void set_xattr(const std::string& path, const char* name, const char* value) {
  REQUIRE(::lsetxattr(path.c_str(), name, value, std::char_traits<char>::length(value), 0) == 0);
}

void make_device_whiteout(const std::string& path) {
  REQUIRE(::mknod(path.c_str(), S_IFCHR, makedev(0, 0)) == 0);
}

}  // namespace

TEST_CASE("a whiteout of any form in the upper, top or middle lower hides what is below",
          "[S-01]") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  TestMount mount(3);
  make_dirs(mount.lower(2) + "/d");
  write_file(mount.lower(2) + "/d/gone", "old");
  write_file(mount.lower(2) + "/d/kept", "old");
  const std::size_t depth = GENERATE(0U, 1U, 2U);
  CAPTURE(depth);
  const std::string layer = depth == 0 ? mount.upper() : mount.lower(depth - 1);
  make_dirs(layer + "/d");
  SECTION("character device 0:0") { make_device_whiteout(layer + "/d/gone"); }
  SECTION(".wh.NAME") { write_file(layer + "/d/.wh.gone", ""); }
  SECTION("by attribute") {
    set_xattr(layer + "/d", "trusted.overlay.opaque", "x");
    write_file(layer + "/d/gone", "");
    set_xattr(layer + "/d/gone", "trusted.overlay.whiteout", "y");
  }
  mount.mount("--io " + io);
  CHECK(names_in(mount.at("d")) == Names{"kept"});
  CHECK_FALSE(exists(mount.at("d/gone")));
  CHECK_FALSE(exists(mount.at("d/.wh.gone")));
  mount.remount();
  CHECK_FALSE(exists(mount.at("d/gone")));  // looked up before it is listed
  CHECK(names_in(mount.at("d")) == Names{"kept"});
}

TEST_CASE("an opaque directory of any form hides the directories below", "[S-02]") {
  TestMount mount(3);
  make_dirs(mount.lower(2) + "/d/sub");
  write_file(mount.lower(2) + "/d/old", "old");
  const std::size_t depth = GENERATE(0U, 1U, 2U);
  CAPTURE(depth);
  const std::string layer = depth == 0 ? mount.upper() : mount.lower(depth - 1);
  make_dirs(layer + "/d");
  write_file(layer + "/d/new", "new");
  SECTION("trusted.overlay.opaque") { set_xattr(layer + "/d", "trusted.overlay.opaque", "y"); }
  SECTION("user.overlay.opaque") { set_xattr(layer + "/d", "user.overlay.opaque", "y"); }
  SECTION("user.fuseoverlayfs.opaque") {
    set_xattr(layer + "/d", "user.fuseoverlayfs.opaque", "y");
  }
  SECTION(".wh..wh..opq") { write_file(layer + "/d/.wh..wh..opq", ""); }
  mount.mount("");
  CHECK(names_in(mount.at("d")) == Names{"new"});
  CHECK_FALSE(exists(mount.at("d/old")));
  CHECK_FALSE(exists(mount.at("d/sub")));
}

TEST_CASE("a deleted lower file leaves a whiteout of the form asked for") {
  TestMount mount;
  write_file(mount.lower() + "/f", "old");
  const bool oci = GENERATE(false, true);
  mount.mount(oci ? "--whiteout oci" : "--whiteout overlay");
  REQUIRE(::unlink(mount.at("f").c_str()) == 0);
  CHECK_FALSE(exists(mount.at("f")));
  mount.remount();
  CHECK_FALSE(exists(mount.at("f")));
  mount.unmount();
  CHECK(names_in(mount.upper()) == (oci ? Names{".wh.f"} : Names{"f"}));
  const struct stat st = stat_of(mount.upper() + (oci ? "/.wh.f" : "/f"));
  CHECK((oci ? S_ISREG(st.st_mode) : S_ISCHR(st.st_mode) && st.st_rdev == 0));
  CHECK(read_file(mount.lower() + "/f") == "old");
}

TEST_CASE("a lower tree removed and made again shows only what is new") {
  const std::string io = GENERATE(from_range(io_modes()));
  const std::string form = GENERATE("overlay", "oci");
  CAPTURE(io, form);
  TestMount mount;
  const std::string tree = GENERATE("t", "a/b/c/t");
  make_dirs(mount.lower() + "/" + tree + "/x/y");
  write_file(mount.lower() + "/" + tree + "/x/y/old", "old");
  mount.mount("--io " + io + " --whiteout " + form);
  REQUIRE(run("rm -rf " + mount.at(tree)).code == 0);
  CHECK_FALSE(exists(mount.at(tree)));
  mount.remount();
  CHECK_FALSE(exists(mount.at(tree)));
  make_dirs(mount.at(tree) + "/x");
  CHECK(names_in(mount.at(tree) + "/x").empty());
  mount.remount();
  CHECK_FALSE(exists(mount.at(tree) + "/x/y"));
  CHECK(names_in(mount.at(tree) + "/x").empty());
  write_file(mount.at(tree) + "/x/y", "new");
  mount.remount();
  CHECK(read_file(mount.at(tree) + "/x/y") == "new");
  CHECK(read_file(mount.lower() + "/" + tree + "/x/y/old") == "old");
}

TEST_CASE("names and attributes that encode marks can be neither made nor seen", "[S-11]") {
  TestMount mount;
  make_dirs(mount.lower() + "/d");
  set_xattr(mount.lower() + "/d", "trusted.overlay.opaque", "y");
  mount.mount("");
  CHECK_THROWS(write_file(mount.at(".wh.f"), ""));
  CHECK(::mkdir(mount.at(".wh.d").c_str(), 0755) < 0);
  write_file(mount.at("f"), "");
  CHECK(::rename(mount.at("f").c_str(), mount.at(".wh.f").c_str()) < 0);
  CHECK(exists(mount.at("f")));
  char value[64];
  CHECK(::lgetxattr(mount.at("d").c_str(), "trusted.overlay.opaque", value, sizeof value) < 0);
  CHECK(::lsetxattr(mount.at("f").c_str(), "trusted.overlay.opaque", "y", 1, 0) < 0);
  CHECK(::llistxattr(mount.at("d").c_str(), value, sizeof value) == 0);
}

TEST_CASE("which: a deleted name is a whiteout in the layer that has it, with what it hides") {
  TestMount mount(3);
  for (const std::size_t i : {1U, 2U}) {
    make_dirs(mount.lower(i) + "/d/sub");
    write_file(mount.lower(i) + "/d/f", "old");
  }
  make_dirs(mount.lower(0) + "/d");
  write_file(mount.lower(0) + "/d/.wh.sub", "");
  const bool oci = GENERATE(false, true);
  mount.mount(oci ? "--whiteout oci" : "--whiteout overlay");
  REQUIRE(::unlink(mount.at("d/f").c_str()) == 0);
  for (int pass = 0; pass < 2; ++pass) {
    const CommandResult file = run("layerfs which " + mount.at("d/f"));
    CHECK(file.code == 0);
    CHECK(file.output == mount.at("d/f") + ": whiteout\n  upper     " + mount.upper() +
                             (oci ? "/d/.wh.f" : "/d/f") + "\n  lower[1]  " + mount.lower(1) +
                             "/d/f  (hidden file)\n  lower[2]  " + mount.lower(2) +
                             "/d/f  (hidden file)\n");
    const CommandResult directory = run("layerfs which " + mount.at("d/sub"));
    CHECK(directory.code == 0);
    CHECK(directory.output == mount.at("d/sub") + ": whiteout\n  lower[0]  " + mount.lower(0) +
                                  "/d/.wh.sub\n  lower[1]  " + mount.lower(1) +
                                  "/d/sub  (hidden directory)\n  lower[2]  " + mount.lower(2) +
                                  "/d/sub  (hidden directory)\n");
    for (const char* name : {"d/never", "never", "d/.wh.sub", "d/f/below"}) {
      CAPTURE(name);
      CHECK(run("layerfs which " + mount.at(name)).code == 1);
    }
    mount.remount();
  }
}
