#include "layers/spill_table.h"

#include <catch2/catch.hpp>
#include <map>
#include <random>

using namespace layerfs;

namespace {

// As a map does, whatever is set, replaced and erased in between.
void compare_with_map(std::size_t most_memory) {
  SpillTable<std::uint64_t> table(most_memory);
  std::map<std::uint64_t, std::uint64_t> expected;
  std::mt19937_64 random(1);
  for (int i = 0; i < 30'000; ++i) {
    const std::uint64_t key = random() % 5000;
    if (random() % 3 == 0) {
      REQUIRE(table.erase({key, 7}));
      expected.erase(key);
    } else {
      REQUIRE(table.set({key, 7}, static_cast<std::uint64_t>(i)));
      expected[key] = static_cast<std::uint64_t>(i);
    }
  }
  CHECK(table.size() == expected.size());
  for (std::uint64_t key = 0; key < 5000; ++key) {
    const auto found = table.find({key, 7});
    REQUIRE(found);
    const auto known = expected.find(key);
    CHECK(*found == (known == expected.end() ? std::nullopt : std::optional(known->second)));
  }
  std::map<std::uint64_t, std::uint64_t> all;
  REQUIRE(table.for_each([&](const SpillKey& key, std::uint64_t value) {
    CHECK(key.low == 7);
    all[key.high] = value;
    return Result<void, Failure>();
  }));
  CHECK(all == expected);
}

}  // namespace

TEST_CASE("a table keeps what was set last and forgets what was erased, in memory and in a file") {
  compare_with_map(std::size_t{8} << 20U);
  compare_with_map(16 * 1024);
  compare_with_map(0);
}

TEST_CASE("a table without entries has no room from those it had") {
  SpillTable<std::uint32_t> table(0);
  CHECK_FALSE(*table.find({1, 2}));
  REQUIRE(table.erase({1, 2}));
  for (std::uint64_t i = 0; i < 1000; ++i) {
    REQUIRE(table.set({i, 2}, 1));
  }
  for (std::uint64_t i = 0; i < 1000; ++i) {
    REQUIRE(table.erase({i, 2}));
  }
  CHECK(table.size() == 0);
  CHECK_FALSE(*table.find({1, 2}));
}
