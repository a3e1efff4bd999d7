#include "tools/layerfs/stats_table.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

using namespace layerfs;

TEST_CASE("a quantile is the bound of the bucket that reaches it") {
  const std::vector<HistogramBucket> buckets = {{16, 50}, {32, 48}, {64, 1}, {128, 1}};
  CHECK(quantile_us(buckets, 0.5) == 16);
  CHECK(quantile_us(buckets, 0.51) == 32);
  CHECK(quantile_us(buckets, 0.99) == 64);
  CHECK(quantile_us(buckets, 1) == 128);
  CHECK(quantile_us({{16, 0}, {32, 5}}, 0) == 32);
  CHECK(!quantile_us({{16, 0}}, 0.5));
  CHECK(!quantile_us({}, 0.5));
}

TEST_CASE("times, sizes and durations for people") {
  CHECK(format_us(0.85) == "850 ns");
  CHECK(format_us(12.34) == "12.3 us");
  CHECK(format_us(4560) == "4.56 ms");
  CHECK(format_us(1.2e6) == "1.2 s");
  CHECK(format_bytes(512) == "512 B");
  CHECK(format_bytes(1536) == "1.5 KiB");
  CHECK(format_bytes(3.0 * (1 << 30)) == "3.0 GiB");
  CHECK(format_duration(59.9) == "59 s");
  CHECK(format_duration(125) == "2 min 05 s");
  CHECK(format_duration(3 * 3600 + 61) == "3 h 01 min");
  CHECK(format_duration(2 * 86400 + 4 * 3600) == "2 d 04 h");
}

TEST_CASE("a document without any key gives a table, not a crash") {
  CHECK(!stats_table(nlohmann::json::object()).empty());
}

TEST_CASE("kinds with no request are left out, the slowest in sum come first") {
  const auto stats = nlohmann::json::parse(R"({"requests":{
      "READ":{"count":0,"total_us":0,"histogram_us":[]},
      "LOOKUP":{"count":10,"errors":1,"total_us":100,"histogram_us":[[16,10]]},
      "OPEN":{"count":2,"errors":0,"total_us":500,"histogram_us":[[256,1],[null,1]]}}})");
  const std::string table = stats_table(stats);
  CHECK(table.find("READ") == std::string::npos);
  CHECK(table.find("OPEN") < table.find("LOOKUP"));
  CHECK(table.find("longer") != std::string::npos);
}

TEST_CASE("watched: the rate since the document before") {
  const auto before = nlohmann::json::parse(R"({"requests":{"LOOKUP":{"count":10}}})");
  const auto now = nlohmann::json::parse(R"({"requests":{"LOOKUP":{"count":110}}})");
  const std::string table = stats_table(now, StatsView{&before, 2});
  CHECK(table.find(" 50 ") != std::string::npos);
  CHECK(table.find("per s") != std::string::npos);
}
