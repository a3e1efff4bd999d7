#include "tools/layerfs/stats_table.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <utility>

#include "layers/mount_config.h"

namespace layerfs {
namespace {

using nlohmann::json;

constexpr int kNameWidth = 18;

template <class... Args>
std::string format(const char* pattern, Args... args) {
  std::array<char, 256> buffer{};
  const int size = std::snprintf(buffer.data(), buffer.size(), pattern, args...);
  return {buffer.data(),
          static_cast<std::size_t>(std::clamp<int>(size, 0, static_cast<int>(buffer.size()) - 1))};
}

std::string text(const json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) {
    return {};
  }
  if (auto bytes = bytes_from_json(*found)) {
    return *std::move(bytes);
  }
  return found->is_boolean() ? (found->get<bool>() ? "on" : "off") : found->dump();
}

double number(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number() ? found->get<double>() : 0;
}

json member(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_object() ? *found : json::object();
}

// "label value, label value" of the keys that are there.
std::string pairs(const json& object,
                  std::initializer_list<std::pair<const char*, const char*>> items) {
  std::string out;
  for (const auto& [label, key] : items) {
    const std::string value = text(object, key);
    if (!value.empty()) {
      out += (out.empty() ? "" : ", ") + std::string(label) + " " + value;
    }
  }
  return out;
}

void line(std::string& out, const std::string& label, const std::string& value) {
  if (!value.empty()) {
    out += format("  %-12s", label.c_str()) + value + "\n";
  }
}

std::string privileges(const json& stats) {
  std::string names;
  const auto held = stats.find("capabilities");
  if (held == stats.end() || !held->is_array()) {
    return names;  // of a daemon that does not tell
  }
  for (const json& name : *held) {
    names +=
        (names.empty() ? "" : " ") + (name.is_string() ? name.get<std::string>() : name.dump());
  }
  const auto fixed = stats.find("no_new_privs");
  return (names.empty() ? "no capabilities" : names) +
         (fixed != stats.end() && *fixed == true ? ", no_new_privs" : "");
}

std::string heading(const json& stats) {
  std::string out = text(stats, "mountpoint") + ": layerfs " + text(stats, "version");
  const std::string pid = text(stats, "pid");
  if (!pid.empty()) {
    out += ", daemon " + pid;
  }
  return out + ", up " + format_duration(number(stats, "uptime_s")) + "\n";
}

std::string layers(const json& stats) {
  std::string out;
  line(out, "upper", text(stats, "upper"));
  line(out, "work", text(stats, "work"));
  line(out, "init", text(stats, "init"));
  const auto lowers = stats.find("lowers");
  if (lowers != stats.end() && lowers->is_array()) {
    for (std::size_t i = 0; i < lowers->size(); ++i) {
      line(out, "lower[" + std::to_string(i) + "]",
           bytes_from_json((*lowers)[i]).value_or((*lowers)[i].dump()));
    }
  }
  return out;
}

std::vector<HistogramBucket> histogram(const json& request) {
  std::vector<HistogramBucket> out;
  const auto found = request.find("histogram_us");
  if (found != request.end() && found->is_array()) {
    for (const json& bucket : *found) {
      if (bucket.is_array() && bucket.size() == 2 && bucket[1].is_number()) {
        // The last bucket has no bound.
        out.push_back(
            {bucket[0].is_number() ? bucket[0].get<double>() : HUGE_VAL, bucket[1].get<double>()});
      }
    }
  }
  return out;
}

std::string quantile_cell(const std::vector<HistogramBucket>& buckets, double quantile) {
  const auto bound = quantile_us(buckets, quantile);
  if (!bound) {
    return "-";
  }
  return std::isfinite(*bound) ? "<= " + format_us(*bound) : "longer";
}

struct Row {
  std::string name;
  double count = 0;
  double errors = 0;
  double total_us = 0;
  double rate = 0;
  std::vector<HistogramBucket> buckets;
};

std::string row_text(const Row& row, bool rates) {
  std::string out = "  " + row.name;
  out.resize(std::max<std::size_t>(kNameWidth, out.size() + 1), ' ');
  out += format("%12.0f %10.0f", row.count, row.errors);
  if (rates) {
    out += format(" %10.0f", row.rate);
  }
  const std::string mean = row.count > 0 ? format_us(row.total_us / row.count) : "-";
  return out + format(" %10s %12s %12s\n", mean.c_str(), quantile_cell(row.buckets, 0.5).c_str(),
                      quantile_cell(row.buckets, 0.99).c_str());
}

std::string requests(const json& stats, const StatsView& view) {
  const json all = member(stats, "requests");
  const json before = view.before == nullptr ? json::object() : member(*view.before, "requests");
  const bool rates = view.before != nullptr && view.seconds > 0;
  std::vector<Row> rows;
  Row total{.name = "all", .buckets = {}};
  for (const auto& [name, request] : all.items()) {
    Row row{name, number(request, "count"), number(request, "errors"), number(request, "total_us"),
            0,    histogram(request)};
    if (row.count == 0) {
      continue;
    }
    if (rates) {
      row.rate = (row.count - number(member(before, name.c_str()), "count")) / view.seconds;
    }
    total.count += row.count;
    total.errors += row.errors;
    total.total_us += row.total_us;
    total.rate += row.rate;
    rows.push_back(std::move(row));
  }
  std::sort(rows.begin(), rows.end(),
            [](const Row& a, const Row& b) { return a.total_us > b.total_us; });
  std::string out = "requests";
  out.resize(kNameWidth, ' ');
  out += format("%12s %10s", "count", "errors") + (rates ? format(" %10s", "per s") : "") +
         format(" %10s %12s %12s\n", "mean", "half", "99 %");
  for (const Row& row : rows) {
    out += row_text(row, rates);
  }
  return out + row_text(total, rates);
}

std::string caches(const json& stats) {
  const json c = member(stats, "caches");
  const json copied = member(stats, "copied_up");
  std::string out = "caches\n";
  line(out, "nodes", text(c, "nodes") + " (" + format_bytes(number(c, "node_bytes")) + ")");
  line(out, "listings", text(c, "listings") + " with " + text(c, "listing_entries") + " entries");
  line(out, "descriptors", text(c, "fds") + " of at most " + text(c, "fd_limit"));
  out += "copied up\n";
  line(out, "files",
       text(copied, "files") + ", of which only metadata: " + text(copied, "metadata_only"));
  line(out, "data", format_bytes(number(copied, "bytes")));
  return out;
}

}  // namespace

std::optional<double> quantile_us(const std::vector<HistogramBucket>& buckets, double quantile) {
  double total = 0;
  for (const HistogramBucket& bucket : buckets) {
    total += bucket.count;
  }
  if (total <= 0) {
    return std::nullopt;
  }
  double seen = 0;
  for (const HistogramBucket& bucket : buckets) {
    seen += bucket.count;
    if (seen > 0 && seen >= total * quantile) {
      return bucket.upper_us;
    }
  }
  return buckets.back().upper_us;
}

std::string format_us(double microseconds) {
  if (microseconds < 1) {
    return format("%.0f ns", microseconds * 1e3);
  }
  if (microseconds < 1e3) {
    return format("%.3g us", microseconds);
  }
  if (microseconds < 1e6) {
    return format("%.3g ms", microseconds / 1e3);
  }
  return format("%.3g s", microseconds / 1e6);
}

std::string format_bytes(double bytes) {
  constexpr double kStep = 1024;
  static constexpr std::array kUnits = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  std::size_t unit = 0;
  while (bytes >= kStep && unit + 1 < kUnits.size()) {
    bytes /= kStep;
    ++unit;
  }
  return format(unit == 0 ? "%.0f %s" : "%.1f %s", bytes, kUnits.at(unit));
}

std::string format_duration(double seconds) {
  const auto whole = static_cast<long long>(std::max(seconds, 0.0));
  constexpr long long kMinute = 60;
  constexpr long long kHour = 60 * kMinute;
  constexpr long long kDay = 24 * kHour;
  if (whole < kMinute) {
    return format("%lld s", whole);
  }
  if (whole < kHour) {
    return format("%lld min %02lld s", whole / kMinute, whole % kMinute);
  }
  if (whole < kDay) {
    return format("%lld h %02lld min", whole / kHour, whole % kHour / kMinute);
  }
  return format("%lld d %02lld h", whole / kDay, whole % kDay / kHour);
}

std::string stats_table(const json& stats, const StatsView& view) {
  std::string out = heading(stats) + layers(stats);
  line(out, "transfer",
       pairs(stats, {{"io", "io"},
                     {"transport", "transport"},
                     {"FUSE", "kernel_proto"},
                     {"libfuse", "libfuse"},
                     {"threads", "threads"}}));
  line(out, "storage",
       pairs(stats,
             {{"whiteout", "whiteout"}, {"xattr", "xattr"}, {"override_stat", "override_stat"}}));
  line(out, "privileges", privileges(stats));
  return out + "\n" + requests(stats, view) + "\n" + caches(stats);
}

}  // namespace layerfs
