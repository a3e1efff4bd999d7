#include "layers/directory_listing.h"

#include <dirent.h>
#include <xxhash.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <random>
#include <string>
#include <type_traits>

using namespace layerfs;

namespace {

std::vector<std::string> names_after(const DirectoryListing& listing, std::uint64_t cookie) {
  std::vector<std::string> names;
  listing.for_each_after(cookie, [&](const DirectoryListing::Entry& entry) {
    names.emplace_back(entry.name);
    return true;
  });
  return names;
}

std::map<std::string, std::uint64_t> cookies(const DirectoryListing& listing) {
  std::map<std::string, std::uint64_t> result;
  listing.for_each_after(0, [&](const DirectoryListing::Entry& entry) {
    REQUIRE(result.emplace(std::string(entry.name), entry.cookie).second);
    return true;
  });
  return result;
}

std::string numbered(unsigned i) { return "file" + std::to_string(i); }

DirectoryListing filled(unsigned count) {
  DirectoryListing listing;
  for (unsigned i = 0; i < count; ++i) {
    listing.insert(numbered(i), DT_REG, 0, 0);
  }
  return listing;
}

// Every name's first choice is one of a few; nearly all collide.
std::uint64_t crowded_hash(std::string_view name, std::uint64_t choice) {
  return choice == 0 ? name.size() % 8 : DirectoryListing::default_hash(name, choice) % 16384;
}

// Names of 32 bytes that XXH3 with seed 0 cannot tell apart: the first 8 bytes cancel
// the secret, and the 8 bytes behind are multiplied by that zero.
std::string colliding_name(unsigned i) {
  std::string number = std::to_string(i);
  number.insert(0, 8 - number.size(), '0');
  return "\xb8\xfe\x6c\x39\x23\xa4\x4b\xbe" + number + "0123456789abcdef";
}

}  // namespace

TEST_CASE("an entry is found by its name with what it was inserted with") {
  DirectoryListing listing;
  listing.insert("a", DT_REG, 3, 7);
  listing.insert("d", DT_DIR, 65535, 0);
  REQUIRE(listing.find("a") != nullptr);
  CHECK(listing.find("a")->name == "a");
  CHECK(listing.find("a")->type == DT_REG);
  CHECK(listing.find("a")->layer == 3);
  CHECK(listing.find("a")->flags == 7);
  CHECK(listing.find("d")->layer == 65535);
  CHECK(listing.find("b") == nullptr);
  CHECK(listing.find("") == nullptr);
  CHECK(listing.size() == 2);
}

TEST_CASE("inserting a name again changes its entry and leaves its cookie") {
  DirectoryListing listing;
  listing.insert("a", DT_REG, 3, 7);
  const std::uint64_t cookie = listing.find("a")->cookie;
  listing.insert("a", DT_DIR, 1, 2);
  CHECK(listing.size() == 1);
  CHECK(listing.find("a")->cookie == cookie);
  CHECK(listing.find("a")->type == DT_DIR);
  CHECK(listing.find("a")->layer == 1);
  CHECK(listing.find("a")->flags == 2);
}

TEST_CASE("set changes only what is there, erase says whether it was") {
  DirectoryListing listing;
  CHECK_FALSE(listing.set("a", DT_REG, 0, 0));
  CHECK(listing.empty());
  listing.insert("a", DT_REG, 0, 0);
  CHECK(listing.set("a", DT_LNK, 4, 1));
  CHECK(listing.find("a")->type == DT_LNK);
  CHECK(listing.erase("a"));
  CHECK_FALSE(listing.erase("a"));
  CHECK(listing.empty());
  CHECK(names_after(listing, 0).empty());
}

TEST_CASE("directory_count follows insert, set, erase and clear") {
  DirectoryListing listing;
  listing.insert("a", DT_DIR, 0, 0);
  listing.insert("b", DT_DIR, 0, 0);
  listing.insert("c", DT_REG, 0, 0);
  CHECK(listing.directory_count() == 2);
  listing.insert("a", DT_DIR, 1, 0);
  CHECK(listing.directory_count() == 2);
  listing.set("a", DT_REG, 1, 0);
  CHECK(listing.directory_count() == 1);
  listing.set("c", DT_DIR, 1, 0);
  CHECK(listing.directory_count() == 2);
  listing.erase("b");
  CHECK(listing.directory_count() == 1);
  listing.clear();
  CHECK(listing.directory_count() == 0);
  CHECK(listing.size() == 0);
}

TEST_CASE("a cookie is XXH3 of the name in 47 bits") {
  DirectoryListing listing;
  listing.insert("some name", DT_REG, 0, 0);
  CHECK(listing.find("some name")->cookie == (XXH3_64bits("some name", 9) & ((1ULL << 47U) - 1)));
}

TEST_CASE("cookies leave 0, 1 and 2 free and fit 47 bits") {
  for (const std::uint64_t hash : {0ULL, 1ULL, 2ULL, 3ULL, 1ULL << 63, ~0ULL}) {
    static std::uint64_t fixed;
    fixed = hash;
    DirectoryListing listing([](std::string_view, std::uint64_t choice) { return fixed + choice; });
    listing.insert("a", DT_REG, 0, 0);
    listing.insert("b", DT_REG, 0, 0);
    for (const auto& [name, cookie] : cookies(listing)) {
      CAPTURE(hash, name);
      CHECK(cookie >= DirectoryListing::kFirstCookie);
      CHECK(cookie <= DirectoryListing::kLastCookie);
    }
    CHECK(listing.size() == 2);
  }
}

TEST_CASE("a cookie does not depend on the order or number of the other entries") {
  const auto all = cookies(filled(2000));
  DirectoryListing other;
  for (unsigned i = 3000; i-- > 0;) {
    other.insert(numbered(i), DT_REG, 0, 0);
  }
  for (unsigned i = 0; i < 3000; i += 3) {
    other.erase(numbered(i));
  }
  for (unsigned i = 1; i < 2000; i += 3) {
    CAPTURE(i);
    CHECK(other.find(numbered(i))->cookie == all.at(numbered(i)));
  }
}

TEST_CASE("iteration is by cookie, strictly after the given one, until told to stop") {
  const DirectoryListing listing = filled(1000);
  std::vector<std::uint64_t> order;
  listing.for_each_after(0, [&](const DirectoryListing::Entry& entry) {
    order.push_back(entry.cookie);
    return true;
  });
  REQUIRE(order.size() == 1000);
  CHECK(std::ranges::adjacent_find(order, std::ranges::greater_equal()) == order.end());
  for (std::size_t i = 0; i < order.size(); ++i) {
    std::vector<std::uint64_t> seen;
    listing.for_each_after(order[i], [&](const DirectoryListing::Entry& entry) {
      seen.push_back(entry.cookie);
      return seen.size() < 3;
    });
    const std::size_t left = std::min<std::size_t>(3, order.size() - i - 1);
    REQUIRE(seen.size() == left);
    CHECK(std::equal(seen.begin(), seen.end(), order.begin() + static_cast<long>(i) + 1));
  }
  CHECK(names_after(listing, order.front() - 1).size() == 1000);
  CHECK(names_after(listing, static_cast<std::uint64_t>(INT64_MAX)).empty());
}

TEST_CASE("a reader that comes back sees every entry that stayed exactly once") {
  // Reads in small pieces; between them entries come and go, also the one it stopped at.
  DirectoryListing listing = filled(5000);
  std::map<std::string, int> seen;
  std::uint64_t position = DirectoryListing::kDotDotCookie;
  unsigned round = 0;
  for (;;) {
    std::string last;
    int taken = 0;
    listing.for_each_after(position, [&](const DirectoryListing::Entry& entry) {
      last = entry.name;
      position = entry.cookie;
      ++seen[last];
      return ++taken < 7;
    });
    if (taken == 0) {
      break;
    }
    listing.insert("new" + std::to_string(round), DT_REG, 0, 0);
    if (last.starts_with("file") && std::stoul(last.substr(4)) % 2 == 1) {
      listing.erase(last);
    }
    ++round;
  }
  for (unsigned i = 0; i < 5000; ++i) {
    CAPTURE(i);
    CHECK(seen[numbered(i)] == 1);
  }
  CHECK(std::ranges::all_of(seen, [](const auto& s) { return s.second == 1; }));
}

TEST_CASE("random operations give what a std::map gives, with few and with many collisions") {
  DirectoryListing::Hash hash = &DirectoryListing::default_hash;
  SECTION("default hash") {}
  SECTION("crowded hash") { hash = &crowded_hash; }
  DirectoryListing listing(hash);
  struct Value {
    unsigned char type;
    std::uint16_t layer;
  };
  std::map<std::string, Value> model;
  std::map<std::string, std::uint64_t> given;  // cookies of entries since they came
  std::mt19937 random(12345);                  // the same run every time
  // Grows to some thousand entries, then shrinks to none, through splits and joins.
  for (int step = 0; step < 24000; ++step) {
    const bool growing = step < 8000;
    const std::string name =
        std::string(random() % 20, 'n') + numbered(static_cast<unsigned>(random() % 3000));
    if (random() % 10 < (growing ? 8U : 1U)) {
      const Value value{random() % 2 == 0 ? static_cast<unsigned char>(DT_DIR)
                                          : static_cast<unsigned char>(DT_REG),
                        static_cast<std::uint16_t>(random())};
      listing.insert(name, value.type, value.layer, 0);
      model[name] = value;
      const std::uint64_t cookie = listing.find(name)->cookie;
      REQUIRE(given.try_emplace(name, cookie).first->second == cookie);
    } else {
      const auto victim = model.lower_bound(name);
      const std::string gone = victim == model.end() ? name : victim->first;
      REQUIRE(listing.erase(gone) == (model.erase(gone) == 1));
      given.erase(gone);
    }
    REQUIRE(listing.size() == model.size());
    if (step % 500 == 0 || step > 23990) {
      CHECK(cookies(listing) == given);
      std::size_t directories = 0;
      for (const auto& [known, value] : model) {
        const auto* entry = listing.find(known);
        REQUIRE(entry != nullptr);
        CHECK(entry->type == value.type);
        CHECK(entry->layer == value.layer);
        directories += value.type == DT_DIR ? 1 : 0;
      }
      CHECK(listing.directory_count() == directories);
      std::uint64_t last = 0;
      listing.for_each_after(0, [&](const DirectoryListing::Entry& entry) {
        CHECK(entry.cookie > last);
        last = entry.cookie;
        return true;
      });
    }
  }
}

TEST_CASE("of two names with one hash either is found when the other is gone") {
  for (const bool first_goes : {true, false}) {
    DirectoryListing listing;
    listing.insert(colliding_name(1), DT_REG, 1, 0);
    listing.insert(colliding_name(2), DT_REG, 2, 0);
    REQUIRE(XXH3_64bits(colliding_name(1).data(), 32) == XXH3_64bits(colliding_name(2).data(), 32));
    const std::uint64_t second = listing.find(colliding_name(2))->cookie;
    CHECK(listing.find(colliding_name(1))->cookie != second);
    CHECK(listing.erase(colliding_name(first_goes ? 1 : 2)));
    CHECK(listing.find(colliding_name(first_goes ? 1 : 2)) == nullptr);
    REQUIRE(listing.find(colliding_name(first_goes ? 2 : 1)) != nullptr);
    if (first_goes) {
      CHECK(listing.find(colliding_name(2))->cookie == second);
      listing.insert(colliding_name(2), DT_REG, 9, 0);
      CHECK(listing.size() == 1);
    }
  }
}

TEST_CASE("names made to collide cost no more than a few searches each") {
  // With one probe sequence for all of them this would be 10^10 steps: the test would
  // run into its time limit.
  constexpr unsigned kNames = 100'000;
  DirectoryListing listing;
  for (unsigned i = 0; i < kNames; ++i) {
    listing.insert(colliding_name(i), DT_REG, 0, 0);
  }
  CHECK(listing.size() == kNames);
  for (unsigned i = 0; i < kNames; i += 97) {
    REQUIRE(listing.find(colliding_name(i)) != nullptr);
  }
  CHECK(listing.find(colliding_name(kNames)) == nullptr);
}

TEST_CASE("a million entries take at most 40 bytes each beside their names") {
  constexpr std::size_t kNames = 1'000'000;
  const DirectoryListing listing = filled(kNames);
  REQUIRE(listing.size() == kNames);
  std::size_t name_bytes = 0;
  listing.for_each_after(0, [&](const DirectoryListing::Entry& entry) {
    name_bytes += entry.name.size();
    return true;
  });
  CHECK(listing.bytes() >= kNames * sizeof(DirectoryListing::Entry) + name_bytes);
  CHECK(listing.bytes() <= kNames * 40 + name_bytes);
}

TEST_CASE("a small listing takes little memory") {
  CHECK(DirectoryListing().bytes() == 0);
  CHECK(filled(5).bytes() <= 700);
}

TEST_CASE("memory is given back as entries go, and names are not kept for ever") {
  DirectoryListing listing = filled(20'000);
  const std::size_t full = listing.bytes();
  for (unsigned i = 100; i < 20'000; ++i) {
    listing.erase(numbered(i));
  }
  CHECK(listing.bytes() < full / 30);
  const std::size_t before = listing.bytes();
  for (unsigned i = 0; i < 100'000; ++i) {
    listing.insert("temporary" + std::to_string(i), DT_REG, 0, 0);
    listing.erase("temporary" + std::to_string(i));
  }
  CHECK(listing.bytes() <= before + 3 * 64 * 1024);
  CHECK(listing.size() == 100);
  for (unsigned i = 0; i < 100; ++i) {
    REQUIRE(listing.find(numbered(i)) != nullptr);
  }
}

TEST_CASE("an entry's own name may be given to insert and erase") {
  DirectoryListing listing = filled(3);
  listing.insert(listing.find("file1")->name, DT_DIR, 5, 0);
  CHECK(listing.size() == 3);
  CHECK(listing.erase(listing.find("file1")->name));
  CHECK(listing.find("file1") == nullptr);
}

TEST_CASE("a moved listing leaves an empty one and keeps its names") {
  static_assert(!std::is_copy_constructible_v<DirectoryListing>);
  DirectoryListing from = filled(300);
  from.insert(colliding_name(1), DT_REG, 0, 0);
  from.insert(colliding_name(2), DT_REG, 0, 0);
  const DirectoryListing::Entry* entry = from.find("file7");
  // NOLINTBEGIN(bugprone-use-after-move,clang-analyzer-cplusplus.Move): defined to be empty
  DirectoryListing to = std::move(from);
  CHECK(from.empty());
  CHECK(from.find("file7") == nullptr);
  CHECK(to.find("file7") == entry);
  CHECK(to.find(colliding_name(2)) != nullptr);
  from.insert("x", DT_REG, 0, 0);
  CHECK(from.size() == 1);
  to = std::move(from);
  // NOLINTEND(bugprone-use-after-move,clang-analyzer-cplusplus.Move)
  CHECK(to.size() == 1);
  CHECK(to.find("x") != nullptr);
}
