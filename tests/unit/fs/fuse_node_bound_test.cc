#include "fs/fuse_node_bound.h"

#include <sys/timerfd.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <functional>
#include <optional>
#include <thread>

#include "tests/testlib/fake_kernel.h"
#include "tests/testlib/files.h"
#include "tests/testlib/layer_dirs.h"

using namespace layerfs;
using namespace layerfs::testing;

TEST_CASE("the limit of memory is the least of a group and those around it, in both versions") {
  const TempDir root;
  make_dirs(root.at("a/b"));
  write_file(root.at("a/memory.max"), "70000000\n");
  write_file(root.at("a/b/memory.max"), "max\n");
  CHECK(memory_limit("0::/a/b", root.path()) == 70000000);
  write_file(root.at("a/b/memory.max"), "60000000\n");
  CHECK(memory_limit("0::/a/b", root.path()) == 60000000);
  CHECK_FALSE(memory_limit("0::/", root.path()));

  make_dirs(root.at("memory/c"));
  write_file(root.at("memory/memory.limit_in_bytes"), "9223372036854771712\n");
  write_file(root.at("memory/c/memory.limit_in_bytes"), "67108864\n");
  CHECK(memory_limit("5:memory:/c", root.path()) == 67108864);
  CHECK(memory_limit("5:cpu,memory:/c", root.path()) == 67108864);
  CHECK_FALSE(memory_limit("5:cpu,memory_x:/c", root.path()));
  CHECK_FALSE(memory_limit("nonsense", root.path()));
}

namespace {

bool gives_up(NodeBound& bound) {
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::seconds(10);
  while (bound.on_growth()) {
    if (Clock::now() > end) {
      return false;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

}  // namespace

TEST_CASE(
    "a kernel that knows no such message is asked once to forget, and growth not told again") {
  const LayerDirs dirs;
  write_file(dirs.lower() + "/f", "data");
  FakeKernel kernel(dirs.config());
  REQUIRE(kernel.init(kLinux_6_9).error == 0);
  REQUIRE(kernel.lookup(FUSE_ROOT_ID, "f").error == 0);
  // Refuses to be written to with EINVAL, as /dev/fuse does a message that it does not know.
  const UniqueFd device(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
  std::atomic<int> looks = 0;
  NodeBound bound(kernel.fs(), device.get(), [&] {
    ++looks;
    return std::uint64_t{0};
  });
  CHECK(gives_up(bound));
  CHECK(looks == 1);
}
