#include "fs/listing_generation.h"

#include <catch2/catch.hpp>
#include <limits>

using namespace layerfs;

TEST_CASE("listing position: offsets give back cookie and generation and are positive") {
  for (const std::uint64_t cookie : {DirectoryListing::kDotCookie, DirectoryListing::kFirstCookie,
                                     DirectoryListing::kLastCookie}) {
    for (const Generation generation : {Generation{0}, Generation{1}, Generation{0xffff}}) {
      const std::uint64_t offset = ListingPosition{cookie, generation}.offset();
      CHECK(offset > 0);
      CHECK(offset <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()));
      CHECK(ListingPosition::of(offset).cookie == cookie);
      CHECK(ListingPosition::of(offset).generation == generation);
    }
  }
}

TEST_CASE("listing generation: changes after it was handed out and only then") {
  ListingGeneration generation;
  const Generation first = generation.hand_out();
  CHECK(generation.is(first));
  generation.change();
  CHECK_FALSE(generation.is(first));
  for (int i = 0; i < 1 << 16; ++i) {
    generation.change();
    CHECK_FALSE(generation.is(first));
  }
  const Generation second = generation.hand_out();
  CHECK(second != first);
  CHECK(generation.hand_out() == second);
}
