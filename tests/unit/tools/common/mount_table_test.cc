#include "tools/common/mount_table.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>

using namespace layerfs;
namespace fs = std::filesystem;

namespace {

struct TemporaryFolder {
  fs::path path;
  TemporaryFolder() {
    std::string name = fs::temp_directory_path() / "layerfs-mount-table-XXXXXX";
    path = fs::canonical(::mkdtemp(name.data()));
  }
  ~TemporaryFolder() { fs::remove_all(path); }
};

}  // namespace

TEST_CASE("mountinfo: optional fields, escapes, subtypes") {
  const auto table = parse_mountinfo(
      "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue\n"
      "40 36 0:52 / /a\\040b\\134c rw - fuse.layerfs my\\040fs rw,user_id=1000,group_id=7\n"
      "no line of ours\n");
  REQUIRE(table.size() == 2);
  CHECK(table[0].id == 36);
  CHECK(table[0].parent == 35);
  CHECK(table[0].root == "/mnt1");
  CHECK(table[0].type == "ext3");
  CHECK(!is_layerfs(table[0]));
  CHECK(mount_owner(table[0]) == 0);
  CHECK(table[1].mount_point == "/a b\\c");
  CHECK(table[1].source == "my fs");
  CHECK(table[1].major == 0);
  CHECK(table[1].minor == 52);
  CHECK(is_layerfs(table[1]));
  CHECK(mount_owner(table[1]) == 1000);
}

TEST_CASE("the mount that is located is the one that stat(2) names") {
  const TemporaryFolder folder;
  const auto located = locate(folder.path, LastComponent::Follow);
  REQUIRE(located);
  struct stat st {};
  REQUIRE(::stat(folder.path.c_str(), &st) == 0);
  CHECK(located->path == folder.path);
  CHECK(major(st.st_dev) == located->mount.major);
  CHECK(minor(st.st_dev) == located->mount.minor);
  CHECK(!located->is_mount_point);
  const auto root = locate("/proc", LastComponent::Follow);
  REQUIRE(root);
  CHECK(root->is_mount_point);
  CHECK(root->inside == "/");
  CHECK(root->mount.type == "proc");
}

TEST_CASE("symlinks in directories are followed, the last one only if asked to") {
  const TemporaryFolder folder;
  fs::create_directory(folder.path / "d");
  std::ofstream(folder.path / "d" / "f") << "x";
  fs::create_symlink("d", folder.path / "l");
  fs::create_symlink("f", folder.path / "d" / "lf");
  const auto link = locate(folder.path / "l" / "lf", LastComponent::AsIs);
  REQUIRE(link);
  CHECK(link->path == folder.path / "d" / "lf");
  CHECK(locate(folder.path / "l" / "lf", LastComponent::Follow)->path == folder.path / "d" / "f");
  CHECK(locate(folder.path / "l" / ".." / "d", LastComponent::AsIs)->path == folder.path / "d");
}

TEST_CASE("a missing name is located if its directory is there and it need not exist") {
  const TemporaryFolder folder;
  const auto missing = locate(folder.path / "gone", LastComponent::AsIs);
  REQUIRE(missing);
  CHECK(missing->path == folder.path / "gone");
  CHECK(!locate(folder.path / "gone", LastComponent::Follow));
  CHECK(!locate(folder.path / "no" / "gone", LastComponent::AsIs));
  CHECK(!locate("", LastComponent::AsIs));
}
