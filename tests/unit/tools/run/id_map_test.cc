#include "tools/run/id_map.h"

#include <catch2/catch.hpp>

using namespace layerfs;
using namespace layerfs::run;

TEST_CASE("id map: subordinate ids are found by name and by number") {
  const auto ranges = subordinate_ids(
      "alice:100000:65536\nbob:200000:10\n# x\n\n1000:300000:5\nbobby:1:1\n", "bob", 1000);
  REQUIRE(ranges);
  REQUIRE(ranges->size() == 2);
  CHECK((*ranges)[0].shown == 200000);
  CHECK((*ranges)[1].shown == 300000);
}

TEST_CASE("id map: a malformed line of the user is an error, of another it is not") {
  CHECK_FALSE(subordinate_ids("bob:200000\n", "bob", 1));
  CHECK_FALSE(subordinate_ids("bob:x:10\n", "bob", 1));
  CHECK_FALSE(subordinate_ids("bob:4294967290:10\n", "bob", 1));
  CHECK(subordinate_ids("alice:x:10\n", "bob", 1));
}

TEST_CASE("id map: the caller is 0 and its ranges follow without a gap") {
  const auto map = with_caller_as_root(1000, {{0, 100000, 65536}, {0, 300000, 10}});
  CHECK(map == std::vector<IdRange>{{0, 1000, 1}, {1, 100000, 65536}, {65537, 300000, 10}});
  CHECK(map_text(map) == "0 1000 1\n1 100000 65536\n65537 300000 10\n");
  CHECK(mapped_from_zero(map) == 65547);
  CHECK(is_mapped(map, 65546));
  CHECK_FALSE(is_mapped(map, 65547));
}

TEST_CASE("id map: a gap ends what is mapped from zero on") {
  CHECK(mapped_from_zero({{10, 5, 5}, {0, 1, 2}}) == 2);
  CHECK(mapped_from_zero({{1, 5, 5}}) == 0);
}
