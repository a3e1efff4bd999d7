#include "tools/run/cgroup_limits.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "tools/common/syntax.h"

namespace layerfs::run {
namespace {

constexpr std::uint64_t kPeriod = 100000;  // microseconds, the kernel's default
constexpr double kLeastCpus = 0.01;

std::string text_of(std::int64_t value, const char* unlimited) {
  return value < 0 ? std::string(unlimited) : std::to_string(value);
}

struct Values {
  const Limits& limits;
  std::vector<CgroupWrite> out;

  void add(const char* option, const char* controller, const char* file, std::string value) {
    out.push_back({option, controller, file, std::move(value)});
  }
};

Outcome<void> memory(Values& values, CgroupVersion version) {
  const Limits& limits = values.limits;
  if (!limits.memory) {
    return limits.memory_swap ? Outcome<void>(usage_error("--memory-swap needs --memory"))
                              : Outcome<void>();
  }
  const auto bytes = static_cast<std::int64_t>(*limits.memory);
  // Without a word on swap, as much of it as of memory, as docker has it.
  const std::int64_t both = limits.memory_swap.value_or(bytes * 2);
  if (both >= 0 && both < bytes) {
    return usage_error(
        "--memory-swap is memory and swap together; it cannot be less than --memory");
  }
  if (version == CgroupVersion::V2) {
    values.add("--memory", "memory", "memory.swap.max",
               both < 0 ? "max" : text_of(both - bytes, ""));
    values.out.back().may_lack = true;
    values.add("--memory", "memory", "memory.max", text_of(bytes, "max"));
    values.add("--memory", "memory", "memory.oom.group", "1");
    values.out.back().may_lack = true;
  } else {
    values.add("--memory", "memory", "memory.limit_in_bytes", text_of(bytes, "-1"));
    values.add("--memory-swap", "memory", "memory.memsw.limit_in_bytes", text_of(both, "-1"));
    // Kernels can be built or started without the accounting of swap.
    values.out.back().may_lack = !limits.memory_swap;
  }
  return {};
}

Outcome<void> cpu(Values& values, CgroupVersion version) {
  const Limits& limits = values.limits;
  if (limits.cpus) {
    if (*limits.cpus < kLeastCpus) {
      return usage_error("--cpus is at least 0.01");
    }
    const auto quota = static_cast<std::uint64_t>(std::llround(*limits.cpus * kPeriod));
    if (version == CgroupVersion::V2) {
      values.add("--cpus", "cpu", "cpu.max", std::to_string(quota) + " " + std::to_string(kPeriod));
    } else {
      values.add("--cpus", "cpu", "cpu.cfs_period_us", std::to_string(kPeriod));
      values.add("--cpus", "cpu", "cpu.cfs_quota_us", std::to_string(quota));
    }
  }
  if (limits.cpu_shares) {
    if (version == CgroupVersion::V2) {
      values.add("--cpu-shares", "cpu", "cpu.weight",
                 std::to_string(weight_of_shares(*limits.cpu_shares)));
    } else {
      values.add("--cpu-shares", "cpu", "cpu.shares", std::to_string(*limits.cpu_shares));
    }
  }
  if (!limits.cpuset.empty()) {
    values.add("--cpuset-cpus", "cpuset", "cpuset.cpus", limits.cpuset);
  }
  return {};
}

void io(Values& values, CgroupVersion version) {
  constexpr std::array<std::pair<std::string_view, const char*>, 4> kV1 = {{
      {"rbps", "blkio.throttle.read_bps_device"},
      {"wbps", "blkio.throttle.write_bps_device"},
      {"riops", "blkio.throttle.read_iops_device"},
      {"wiops", "blkio.throttle.write_iops_device"},
  }};
  for (const IoLimit& limit : values.limits.io) {
    if (version == CgroupVersion::V2) {
      values.add("--io", "io", "io.max",
                 limit.device + " " + limit.key + "=" + std::to_string(limit.value));
    } else {
      const auto* const named = std::find_if(
          kV1.begin(), kV1.end(), [&](const auto& entry) { return entry.first == limit.key; });
      values.add("--io", "blkio", named->second, limit.device + " " + std::to_string(limit.value));
    }
    values.out.back().for_both = true;
  }
  if (values.limits.io_weight) {
    if (version == CgroupVersion::V2) {
      values.add("--io-weight", "io", "io.weight",
                 std::to_string(io_weight_of(*values.limits.io_weight)));
    } else {
      values.add("--io-weight", "blkio", "blkio.weight", std::to_string(*values.limits.io_weight));
    }
    values.out.back().for_both = true;
  }
}

// What every container has: the nodes of its /dev, its terminals, and making nodes, which
// its capabilities decide.
void devices(Values& values, CgroupVersion version) {
  if (values.limits.devices.empty() || version == CgroupVersion::V2) {
    return;
  }
  values.add("--device-allow", "devices", "devices.deny", "a");
  for (const char* rule : {"c *:* m", "b *:* m", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm",
                           "c 1:9 rwm", "c 5:0 rwm", "c 5:2 rwm", "c 136:* rwm"}) {
    values.add("--device-allow", "devices", "devices.allow", rule);
  }
  for (const DeviceRule& device : values.limits.devices) {
    values.add("--device-allow", "devices", "devices.allow", device.rule);
  }
}

Outcome<std::string> device_numbers(const std::string& text) {
  if (!text.starts_with('/')) {
    const std::size_t colon = text.find(':');
    const auto digits = [](std::string_view part) {
      return !part.empty() &&
             std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
    };
    if (colon == std::string::npos || !digits(text.substr(0, colon)) ||
        !digits(text.substr(colon + 1))) {
      return usage_error("'" + text + "' is neither a block device nor MAJOR:MINOR");
    }
    return text;
  }
  struct stat st {};
  if (::stat(text.c_str(), &st) < 0) {
    return usage_error("'" + text + "': " + describe(Errno::last()));
  }
  if (!S_ISBLK(st.st_mode)) {
    return usage_error("'" + text + "' is no block device");
  }
  return std::to_string(major(st.st_rdev)) + ":" + std::to_string(minor(st.st_rdev));
}

}  // namespace

std::uint64_t weight_of_shares(std::uint64_t shares) {
  constexpr std::uint64_t kMostShares = 262144;
  constexpr std::uint64_t kMostWeight = 10000;
  if (shares <= 2) {
    return 1;
  }
  if (shares >= kMostShares) {
    return kMostWeight;
  }
  // A curve through (2, 1), (1024, 100) and (262144, 10000), as the OCI runtimes use it.
  const double l = std::log2(static_cast<double>(shares));
  const double exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
  // Less a hair: 1024 shares are 100 exactly, not 100 and a rounding error.
  return static_cast<std::uint64_t>(std::ceil(std::pow(10.0, exponent) - 1e-9));
}

std::uint64_t io_weight_of(std::uint64_t weight) { return 1 + (weight - 10) * 9999 / 990; }

Outcome<DeviceRule> parse_device(std::string_view text) {
  const std::size_t colon = std::min(text.find(':'), text.size());
  const std::string path(text.substr(0, colon));
  const std::string access(text.substr(std::min(colon + 1, text.size())));
  if (!path.starts_with("/dev/") || path.find("/..") != std::string::npos || path.size() < 6) {
    return usage_error("'" + path + "' is not below /dev");
  }
  if (access.find_first_not_of("rwm") != std::string::npos ||
      (access.empty() && colon < text.size())) {
    return usage_error("'" + access + "' is not of r, w and m");
  }
  struct stat st {};
  if (::stat(path.c_str(), &st) < 0) {
    return usage_error("'" + path + "': " + describe(Errno::last()));
  }
  if (!S_ISBLK(st.st_mode) && !S_ISCHR(st.st_mode)) {
    return usage_error("'" + path + "' is no device");
  }
  return DeviceRule{
      path, std::string(S_ISBLK(st.st_mode) ? "b " : "c ") + std::to_string(major(st.st_rdev)) +
                ":" + std::to_string(minor(st.st_rdev)) + " " + (access.empty() ? "rwm" : access)};
}

Outcome<std::vector<IoLimit>> parse_io_limit(std::string_view text) {
  const std::size_t equals = text.find('=');
  const std::size_t colon = text.rfind(':', equals);
  if (equals == std::string_view::npos || colon == std::string_view::npos) {
    return usage_error("'" + std::string(text) + "' is not DEVICE:KEY=VALUE[,KEY=VALUE...]");
  }
  LFS_ASSIGN(const std::string device, device_numbers(std::string(text.substr(0, colon))));
  std::vector<IoLimit> out;
  std::string_view rest = text.substr(colon + 1);
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find(','), rest.size());
    const std::string_view word = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    const std::size_t middle = std::min(word.find('='), word.size());
    const std::string key(word.substr(0, middle));
    if (key != "rbps" && key != "wbps" && key != "riops" && key != "wiops") {
      return usage_error("'" + key + "' is none of rbps, wbps, riops and wiops");
    }
    LFS_ASSIGN(const std::uint64_t value,
               parse_size(word.substr(std::min(middle + 1, word.size()))));
    out.push_back({device, key, value});
  }
  return out;
}

Outcome<std::vector<CgroupWrite>> writes_for(const Limits& limits, CgroupVersion version) {
  Values values{limits, {}};
  LFS_TRY(memory(values, version));
  LFS_TRY(cpu(values, version));
  if (limits.pids) {
    values.add("--pids", "pids", "pids.max", text_of(*limits.pids == 0 ? -1 : *limits.pids, "max"));
  }
  io(values, version);
  devices(values, version);
  return std::move(values.out);
}

}  // namespace layerfs::run
