#include "fs/statistics.h"

#include <catch2/catch.hpp>
#include <numeric>
#include <set>
#include <string>

using namespace layerfs;
using namespace std::chrono_literals;

TEST_CASE("statistics: each kind of request has a name of its own") {
  std::set<std::string> names;
  for (std::size_t i = 0; i < static_cast<std::size_t>(Op::Count); ++i) {
    const char* name = op_name(static_cast<Op>(i));
    REQUIRE(name != nullptr);
    CHECK(names.insert(name).second);
  }
  CHECK(std::string(op_name(Op::Lookup)) == "LOOKUP");
  CHECK(std::string(op_name(Op::CopyFileRange)) == "COPY_FILE_RANGE");
  CHECK(std::string(op_name(Op::Statx)) == "STATX");
}

TEST_CASE("statistics: a request counts for its kind, with its time and its failure") {
  Statistics statistics;
  statistics.record(Op::Read, 5us, false);
  statistics.record(Op::Read, 7us, true);
  CHECK(statistics.of(Op::Read).count == 2);
  CHECK(statistics.of(Op::Read).errors == 1);
  CHECK(statistics.of(Op::Read).nanoseconds == 12000);
  CHECK(statistics.of(Op::Write).count == 0);
}

TEST_CASE("statistics: bucket i of the histogram counts what took less than 2^i microseconds") {
  const auto [took, bucket] =
      GENERATE(table<std::chrono::nanoseconds, std::size_t>({{0ns, 0},
                                                             {999ns, 0},
                                                             {1us, 1},
                                                             {1999ns, 1},
                                                             {2us, 2},
                                                             {1000us, 10},
                                                             {1024us, 11},
                                                             {24h, Statistics::kBuckets - 1}}));
  CAPTURE(took.count());
  Statistics statistics;
  statistics.record(Op::Read, took, false);
  const auto& histogram = statistics.of(Op::Read).histogram;
  CHECK(histogram[bucket] == 1);
  std::uint64_t total = 0;
  for (const auto& count : histogram) {
    total += count;
  }
  CHECK(total == 1);
}
