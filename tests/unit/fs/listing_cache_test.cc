#include "fs/listing_cache.h"

#include <dirent.h>

#include <catch2/catch.hpp>
#include <string>

using namespace layerfs;

namespace {

SharedListing listing_of(std::size_t entries) {
  auto listing = std::make_shared<MergedDirectory>();
  for (std::size_t i = 0; i < entries; ++i) {
    listing->visible.insert("entry" + std::to_string(i), DT_REG, 0, 0);
  }
  return listing;
}

}  // namespace

TEST_CASE("listing cache: a listing is found until it is dropped or another takes its place") {
  ListingCache cache(1000);
  CHECK(cache.find(1) == nullptr);
  const SharedListing first = listing_of(5);
  cache.put(1, first);
  CHECK(cache.find(1) == first);
  const SharedListing second = listing_of(6);
  cache.put(1, second);
  CHECK(cache.find(1) == second);
  CHECK(cache.usage().listings == 1);
  CHECK(cache.usage().entries == 6);
  cache.drop(1);
  cache.drop(2);
  CHECK(cache.find(1) == nullptr);
  CHECK(cache.usage().listings == 0);
  CHECK(cache.usage().entries == 0);
}

TEST_CASE("listing cache: beyond the limit of entries the least recently used go") {
  ListingCache cache(100);
  cache.put(1, listing_of(30));
  cache.put(2, listing_of(30));
  CHECK(cache.find(1) != nullptr);  // used now
  cache.put(3, listing_of(30));
  CHECK(cache.find(2) == nullptr);
  CHECK(cache.find(1) != nullptr);
  CHECK(cache.find(3) != nullptr);
}

TEST_CASE("listing cache: one listing larger than the limit stays while it is the last used") {
  ListingCache cache(100);
  cache.put(1, listing_of(1000));
  CHECK(cache.find(1) != nullptr);
  cache.put(2, listing_of(1));
  CHECK(cache.find(1) == nullptr);
  CHECK(cache.find(2) != nullptr);
}

TEST_CASE("listing cache: empty directories are bounded too") {
  ListingCache cache(1000);
  for (NodeId node = 1; node <= 10000; ++node) {
    cache.put(node, listing_of(0));
  }
  CHECK(cache.usage().listings <= 1000);
  CHECK(cache.usage().entries == 0);
}

TEST_CASE("listing cache: a listing that grew while it was kept is taken out by what it was") {
  ListingCache cache(1000);
  const SharedListing listing = listing_of(2);
  cache.put(1, listing);
  for (int i = 0; i < 500; ++i) {
    listing->visible.insert("later" + std::to_string(i), DT_REG, 0, 0);
  }
  cache.drop(1);
  CHECK(cache.usage().entries == 0);
  cache.put(2, listing_of(900));
  CHECK(cache.find(2) != nullptr);
}
