#include "fs/ino_map.h"

#include <sys/stat.h>

#include <catch2/catch.hpp>

#include "tests/testlib/layer_dirs.h"
#include "tests/testlib/skip.h"

using namespace layerfs;
using namespace layerfs::testing;

namespace {

// On memory, where /var/tmp as a rule is on disk.
struct OtherFilesystem {
  std::string path = make_temp_dir("/dev/shm");
  ~OtherFilesystem() { ::rmdir(path.c_str()); }
};

LayerStack open_stack(const LayerDirs& dirs, std::vector<std::string> lowers) {
  StackOptions options;
  options.lowers = std::move(lowers);
  options.mountpoint = dirs.mountpoint();
  auto stack = LayerStack::open(options);
  REQUIRE(stack);
  return std::move(*stack);
}

}  // namespace

TEST_CASE("inode map: numbers of the bottom layer's filesystem are shown as they are") {
  const LayerDirs dirs;
  const LayerStack stack = open_stack(dirs, {dirs.lower()});
  InoMap map(stack);
  CHECK(map.shown(stack.at(0).device, 1) == 1);
  CHECK(map.shown(stack.at(0).device, 123456789) == 123456789);
}

TEST_CASE("inode map: the same number on two filesystems is two numbers") {
  const LayerDirs dirs;
  const OtherFilesystem other;
  const dev_t here = stat_of(dirs.lower()).st_dev;
  const dev_t there = stat_of(other.path).st_dev;
  if (here == there) {
    SKIP_TEST("/var/tmp and /dev/shm are one filesystem here");
  }
  InoMap map(open_stack(dirs, {other.path, dirs.lower()}));
  CHECK(map.shown(here, 7) == 7);
  CHECK(map.shown(there, 7) != 7);
  CHECK(map.shown(there, 7) != map.shown(there, 8));
  // A layer added on top changes no number.
  InoMap below(open_stack(dirs, {dirs.lower()}));
  InoMap above(open_stack(dirs, {other.path, dirs.lower()}));
  CHECK(below.shown(here, 7) == above.shown(here, 7));
  CHECK(above.shown(there, 7) == map.shown(there, 7));
}

TEST_CASE(
    "inode map: a filesystem that is no layer's gets numbers of its own, the same each time") {
  const LayerDirs dirs;
  const LayerStack stack = open_stack(dirs, {dirs.lower()});
  InoMap map(stack);
  const dev_t inside = stack.at(0).device + 1000;
  const std::uint64_t shown = map.shown(inside, 7);
  CHECK(shown != map.shown(stack.at(0).device, 7));
  CHECK(map.shown(inside, 7) == shown);
  CHECK(map.shown(inside + 1, 7) != shown);
  CHECK(map.fsid_of(inside) == 0);
}

TEST_CASE("inode map: numbers too large to be marked with their filesystem are told apart") {
  const LayerDirs dirs;
  const LayerStack stack = open_stack(dirs, {dirs.lower()});
  InoMap map(stack);
  const dev_t device = stack.at(0).device;
  const std::uint64_t large = std::uint64_t{1} << 60U;
  CHECK(map.shown(device, large) == map.shown(device, large));
  CHECK(map.shown(device, large) != map.shown(device, large + 1));
  CHECK(map.shown(device, large) != map.shown(device + 1000, large));
  CHECK(map.shown(device, large) >> 63U == 1);
  CHECK(map.shown(device, (std::uint64_t{1} << 48U) - 1) >> 48U == 0);
}

TEST_CASE("inode map: a recorded origin is found by the filesystem's id, and only if it has one") {
  const LayerDirs dirs;
  const LayerStack stack = open_stack(dirs, {dirs.lower()});
  InoMap map(stack);
  const std::uint64_t fsid = map.fsid_of(stack.at(0).device);
  CHECK(fsid == stack.at(0).fsid);
  if (fsid != 0) {
    CHECK(map.shown_by_fsid(fsid, 7) == map.shown(stack.at(0).device, 7));
  }
  CHECK(map.shown_by_fsid(fsid + 1, 7) == std::nullopt);
  CHECK(map.shown_by_fsid(0, 7) == std::nullopt);
}
