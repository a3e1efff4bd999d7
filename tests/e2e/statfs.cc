// Sizes of the filesystem, as df(1) shows them: the upper's, which is what can be written.
#include <sys/statvfs.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "tests/testlib/test_mount.h"

using namespace layerfs::testing;

namespace {

struct statvfs statfs_of(const std::string& path) {
  struct statvfs st = {};
  if (::statvfs(path.c_str(), &st) < 0) {
    throw_errno(path);
  }
  return st;
}

// A tmpfs of 8 MiB holds upper and work directory.
class SmallUpper {
 public:
  SmallUpper() {
    make_dirs(dir());
    REQUIRE(run("mount -t tmpfs -o size=8m,nr_inodes=500 none " + dir()).code == 0);
    make_dirs(dir() + "/u");
  }
  ~SmallUpper() {
    run("layerfs umount " + mountpoint());
    run("umount -l " + dir());
  }
  SmallUpper(const SmallUpper&) = delete;
  SmallUpper& operator=(const SmallUpper&) = delete;
  void mount(const std::string& options) {
    const CommandResult result = run("layerfs mount " + layers_.lower() + " " + dir() + "/u " +
                                     mountpoint() + " " + options);
    INFO(result.output);
    REQUIRE(result.code == 0);
  }
  std::string dir() const { return layers_.base() + "/small"; }
  std::string mountpoint() const { return layers_.base() + "/m"; }

 private:
  TestMount layers_;
};

}  // namespace

TEST_CASE("statfs shows size, free space, inodes and name length of the upper's filesystem",
          "[S-18]") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  SmallUpper small;
  small.mount("--io " + io);
  const auto check = [&] {
    const struct statvfs shown = statfs_of(small.mountpoint());
    const struct statvfs stored = statfs_of(small.dir() + "/u");
    CHECK(shown.f_blocks * shown.f_frsize == stored.f_blocks * stored.f_frsize);
    CHECK(shown.f_bfree * shown.f_frsize == stored.f_bfree * stored.f_frsize);
    CHECK(shown.f_bavail * shown.f_frsize == stored.f_bavail * stored.f_frsize);
    CHECK(shown.f_files == stored.f_files);
    CHECK(shown.f_ffree == stored.f_ffree);
    CHECK(shown.f_namemax == 255);
    return shown.f_bfree * shown.f_frsize;
  };
  const auto before = check();
  write_file(small.mountpoint() + "/f", std::string(1 << 20, 'x'));
  ::sync();
  CHECK(check() <= before - (1 << 20));
}

TEST_CASE("statfs of a mount without upper shows the lower's size and says read-only") {
  TestMount mount;
  const std::string mountpoint = mount.base() + "/m";
  REQUIRE(run("layerfs mount " + mount.lower() + " " + mountpoint).code == 0);
  const struct statvfs shown = statfs_of(mountpoint);
  const struct statvfs stored = statfs_of(mount.lower());
  CHECK(shown.f_blocks * shown.f_frsize == stored.f_blocks * stored.f_frsize);
  CHECK((shown.f_flag & ST_RDONLY) != 0);
  CHECK(run("layerfs umount " + mountpoint).code == 0);
}
