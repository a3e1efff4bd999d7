#include "tools/oci/block_work.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <mutex>
#include <set>
#include <vector>

using namespace layerfs::oci;

namespace {

SharedBlock numbered(std::size_t number) {
  auto block = std::make_shared<Block>(1);
  block->used = number;
  return block;
}

}  // namespace

TEST_CASE("block work: each job has every block, in order and one at a time") {
  constexpr std::size_t kBlocks = 2000;
  std::vector<std::size_t> seen[2];
  std::atomic<int> inside[2] = {0, 0};
  std::atomic<bool> overlapped = false;
  const auto job = [&](int which) {
    return [&, which](const SharedBlock& block) {
      overlapped = overlapped || ++inside[which] > 1;
      // One is slow now and then, and not always the same.
      if ((block->used / 100 + static_cast<std::size_t>(which)) % 2 == 0) {
        std::this_thread::sleep_for(std::chrono::microseconds(20));
      }
      seen[which].push_back(block->used);
      --inside[which];
      return true;
    };
  };
  BlockWork work(job(0), job(1));
  for (std::size_t i = 0; i < kBlocks; ++i) {
    REQUIRE(work.push(numbered(i)));
  }
  REQUIRE(work.finish());
  CHECK_FALSE(overlapped);
  for (const auto& numbers : seen) {
    REQUIRE(numbers.size() == kBlocks);
    for (std::size_t i = 0; i < kBlocks; ++i) {
      REQUIRE(numbers[i] == i);
    }
  }
}

TEST_CASE("block work: who brings blocks works too rather than let them pile up") {
  std::mutex mutex;
  std::set<std::thread::id> workers;
  std::atomic<std::size_t> done = 0;
  std::size_t most_waiting = 0;
  const auto slow = [&](const SharedBlock&) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    const std::lock_guard lock(mutex);
    workers.insert(std::this_thread::get_id());
    return true;
  };
  BlockWork work(slow, [&](const SharedBlock& block) {
    ++done;
    return slow(block);
  });
  for (std::size_t i = 0; i < 100; ++i) {
    REQUIRE(work.push(numbered(i)));
    most_waiting = std::max(most_waiting, i + 1 - done);
  }
  REQUIRE(work.finish());
  CHECK(done == 100);
  CHECK(workers.size() == 2);
  CHECK(workers.contains(std::this_thread::get_id()));
  CHECK(most_waiting <= 16);
}

TEST_CASE("block work: a job that wants no more ends it") {
  std::atomic<int> taken = 0;
  BlockWork work([](const SharedBlock&) { return true; },
                 [&](const SharedBlock&) { return ++taken < 3; });
  bool wanted = true;
  for (std::size_t i = 0; i < 1000 && wanted; ++i) {
    wanted = work.push(numbered(i));
  }
  CHECK_FALSE(wanted);
  CHECK_FALSE(work.push(numbered(0)));
  CHECK_FALSE(work.finish());
  CHECK(taken == 3);
}

TEST_CASE("block work: may be given up in the middle") {
  for (int i = 0; i < 50; ++i) {
    BlockWork work([](const SharedBlock&) { return true; },
                   [](const SharedBlock&) { return true; });
    REQUIRE(work.push(numbered(1)));
  }
  SUCCEED("no thread is left waiting");
}
