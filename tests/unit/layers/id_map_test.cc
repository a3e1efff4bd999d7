#include "layers/id_map.h"

#include <catch2/catch.hpp>
#include <limits>

using namespace layerfs;

namespace {

using Triples = std::vector<std::array<std::uint32_t, 3>>;
constexpr std::uint32_t kMax = std::numeric_limits<std::uint32_t>::max();

IdMap map_of(const Triples& triples, std::uint32_t overflow_id = IdMap::kDefaultOverflowId) {
  const auto map = IdMap::from_triples(triples, overflow_id);
  REQUIRE(map.ok());
  return *map;
}

}  // namespace

TEST_CASE("no triple is the identity, both ways") {
  for (const IdMap& map : {IdMap(), map_of({})}) {
    CHECK(map.is_identity());
    CHECK_FALSE(map.is_squash());
    for (const std::uint32_t id : {0U, 1000U, 65534U, kMax - 1}) {
      CHECK(map.to_shown(id) == id);
      CHECK(map.to_disk(id) == id);
    }
  }
}

TEST_CASE("container ids on disk are shown as host ids, and written back") {
  // As podman sends it: ":0:1000:1:1:110000:65536". Out of order on purpose.
  const IdMap map = map_of({{1, 110000, 65536}, {0, 1000, 1}});
  CHECK_FALSE(map.is_identity());
  CHECK(map.to_shown(0) == 1000);
  CHECK(map.to_shown(1) == 110000);
  CHECK(map.to_shown(65536) == 175535);
  CHECK(map.to_disk(1000) == 0U);
  CHECK(map.to_disk(110000) == 1U);
  CHECK(map.to_disk(175535) == 65536U);
}

TEST_CASE("an id on disk outside the map is shown as the overflow id") {
  CHECK(map_of({{10, 0, 5}}).to_shown(9) == 65534);
  CHECK(map_of({{10, 0, 5}}).to_shown(15) == 65534);
  CHECK(map_of({{10, 0, 5}}, 99).to_shown(15) == 99);
  CHECK(map_of({{10, 0, 5}}).to_shown(14) == 4);
}

TEST_CASE("a shown id outside the map cannot be written, not even the overflow id") {
  const IdMap map = map_of({{10, 100, 5}});
  CHECK_FALSE(map.to_disk(99));
  CHECK_FALSE(map.to_disk(105));
  CHECK_FALSE(map.to_disk(65534));
  CHECK(map.to_disk(104) == 14U);
}

TEST_CASE("a shown id outside the map is written as the overflow id where that is asked for") {
  const IdMap map = map_of({{0, 100000, 65536}}).writing_overflow();
  CHECK(map.to_disk(0) == 65534U);
  CHECK(map.to_disk(100007) == 7U);
  CHECK(map.to_shown(65534) == 165534);
  CHECK(IdMap().writing_overflow().to_disk(7) == 7U);
}

TEST_CASE("squash shows one id for all and writes ids as they are") {
  const IdMap map = IdMap::squash(1000);
  CHECK(map.is_squash());
  CHECK_FALSE(map.is_identity());
  CHECK(map.to_shown(0) == 1000);
  CHECK(map.to_shown(77) == 1000);
  CHECK(map.to_disk(77) == 77U);
}

TEST_CASE("a squashed map still maps what is written") {
  const IdMap map = map_of({{0, 1000, 10}}).squashed_to(5);
  CHECK(map.to_shown(3) == 5);
  CHECK(map.to_shown(12345) == 5);
  CHECK(map.to_disk(1003) == 3U);
  CHECK_FALSE(map.to_disk(3));
}

TEST_CASE("ranges that are empty, overlap or leave the ids are EINVAL") {
  for (const Triples& triples : {
           Triples{{0, 0, 0}},
           Triples{{0, 100, 10}, {9, 200, 1}},       // on disk
           Triples{{9, 200, 1}, {0, 100, 10}},       // whatever the order
           Triples{{0, 100, 10}, {20, 109, 10}},     // shown
           Triples{{5, 100, 1}, {5, 200, 1}},        // same start
           Triples{{0, 0, kMax}, {kMax - 1, 0, 1}},  // at the end
           Triples{{kMax, 0, 1}},                    // 2^32 - 1 is no id
           Triples{{0, kMax - 1, 2}},
           Triples{{1, 0, kMax}},
       }) {
    const auto map = IdMap::from_triples(triples);
    REQUIRE_FALSE(map.ok());
    CHECK(map.error() == Errno(EINVAL));
  }
}

TEST_CASE("ranges may touch, and cover all ids") {
  CHECK(map_of({{0, 10, 10}, {10, 0, 10}}).to_shown(10) == 0);
  const IdMap all = map_of({{0, 0, kMax}});
  CHECK(all.to_shown(kMax - 1) == kMax - 1);
  CHECK(all.to_disk(kMax - 1) == kMax - 1);
}
