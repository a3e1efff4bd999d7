// The daemon's stats document for people. Pure text work; keys that are missing are left
// out, so that a document of another version still reads well.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

namespace layerfs {

struct HistogramBucket {
  double upper_us;  // its requests took at most this long
  double count;
};

// The bound of the bucket in which the share `quantile` (0 to 1) of all requests is
// reached; nullopt without requests.
std::optional<double> quantile_us(const std::vector<HistogramBucket>& buckets, double quantile);

// "850 ns", "12.3 us", "4.56 ms", "1.20 s".
std::string format_us(double microseconds);
// "512 B", "1.5 KiB", ...
std::string format_bytes(double bytes);
// "59 s", "2 min 05 s", "3 h 01 min", "2 d 04 h".
std::string format_duration(double seconds);

// `before`: the same mount's document of `seconds` ago, for a column of requests a second.
struct StatsView {
  const nlohmann::json* before = nullptr;
  double seconds = 0;
};
std::string stats_table(const nlohmann::json& stats, const StatsView& view = {});

}  // namespace layerfs
