#include "layers/record_sorter.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <random>

using namespace layerfs;

namespace {

std::vector<std::string> read_all(RecordSorter::Reader& reader, std::size_t rest_every = 0) {
  std::vector<std::string> out;
  for (;;) {
    const auto head = reader.head();
    REQUIRE(head);
    if (!*head) {
      return out;
    }
    out.emplace_back(**head);
    reader.pop();
    if (rest_every > 0 && out.size() % rest_every == 0) {
      reader.rest();
    }
  }
}

// About `count` times 40 bytes; some twice, some empty, some with bytes that are no text.
std::vector<std::string> records(std::size_t count) {
  std::mt19937 random(count);
  std::vector<std::string> out;
  for (std::size_t i = 0; i < count; ++i) {
    std::string record(random() % 60, static_cast<char>(random()));
    record += i % 7 == 0 ? "" : std::to_string(random() % count);
    out.push_back(std::move(record));
  }
  out.emplace_back(100'000, 'x');  // longer than a buffer
  return out;
}

void add_all(RecordSorter& sorter, const std::vector<std::string>& records) {
  for (const std::string& record : records) {
    REQUIRE(sorter.add(record));
  }
  REQUIRE(sorter.finish());
}

}  // namespace

TEST_CASE("sorted records are in bytewise order, as often as they are read, in memory or not") {
  for (const std::size_t count : {0U, 1U, 1000U, 300'000U}) {
    SortSpace space;
    RecordSorter sorter(space);
    std::vector<std::string> expected = records(count);
    add_all(sorter, expected);
    CHECK((space.log.size() > 0) == (count > 1000));
    CHECK(sorter.count() == expected.size());
    std::sort(expected.begin(), expected.end());
    RecordSorter::Reader reader(sorter);
    CHECK(read_all(reader) == expected);
    reader = RecordSorter::Reader(sorter);
    CHECK(read_all(reader, 1 + count / 10) == expected);
  }
}

TEST_CASE("sorters of one space hold no more than 4 MiB and leave its room to those after them") {
  SortSpace space;
  const std::vector<std::string> words = records(20'000);
  for (int round = 0; round < 3; ++round) {
    std::vector<std::unique_ptr<RecordSorter>> nested;
    for (int i = 0; i < 20; ++i) {
      nested.push_back(std::make_unique<RecordSorter>(space));
      add_all(*nested.back(), words);
      CHECK(space.held <= 4 << 20);
    }
    std::vector<std::string> expected = words;
    std::sort(expected.begin(), expected.end());
    for (const auto& sorter : {nested.begin(), nested.end() - 1}) {
      RecordSorter::Reader reader(**sorter);
      CHECK(read_all(reader) == expected);
    }
    CHECK(space.log.size() < 20 * 20'000 * 60);
    while (!nested.empty()) {
      nested.pop_back();
    }
    CHECK(space.held == 0);
    CHECK(space.log.size() == 0);
  }
}
