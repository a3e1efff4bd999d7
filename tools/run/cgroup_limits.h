// From what was asked for to what is written into which file of a control group. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/common/problem.h"

namespace layerfs::run {

struct IoLimit {
  std::string device;  // MAJOR:MINOR
  std::string key;     // rbps, wbps, riops or wiops
  std::uint64_t value = 0;
};

// A device node of the host that the container gets.
struct DeviceRule {
  std::string path;  // below /dev
  std::string rule;  // "c 10:229 rw", as the controller of v1 takes it
};

struct Limits {
  std::optional<std::uint64_t> memory;
  // Memory and swap together, as docker has it; -1: no limit.
  std::optional<std::int64_t> memory_swap;
  std::optional<double> cpus;
  std::optional<std::uint64_t> cpu_shares;
  std::string cpuset;
  std::optional<std::int64_t> pids;  // 0 or less: no limit
  std::vector<IoLimit> io;
  std::optional<std::uint64_t> io_weight;  // 10 to 1000
  std::vector<DeviceRule> devices;
  bool best_effort = false;

  bool any() const {
    return memory || memory_swap || cpus || cpu_shares || !cpuset.empty() || pids || !io.empty() ||
           io_weight || !devices.empty();
  }
};

enum class CgroupVersion { V1, V2 };

// Where a value goes: what the container's processes cause is theirs, but their I/O is
// done by the daemon too, so that those limits are on the group above both.
struct CgroupWrite {
  std::string option;  // the option that it is for
  std::string controller;
  std::string file;
  std::string value;
  bool for_both = false;
  bool may_lack = false;  // a kernel without the file does what is wanted
};

// A usage error for combinations that mean nothing.
Outcome<std::vector<CgroupWrite>> writes_for(const Limits& limits, CgroupVersion version);

// The kernel's weight (1 to 10000) that a number of v1 shares (2 to 262144) amounts to:
// 1024 is 100, what every other group has.
std::uint64_t weight_of_shares(std::uint64_t shares);
// io.weight (1 to 10000) of a v1 weight (10 to 1000).
std::uint64_t io_weight_of(std::uint64_t weight);

// PATH[:ACCESS], ACCESS of r, w and m.
Outcome<DeviceRule> parse_device(std::string_view text);

// "64:rbps=1m,wiops=100" with a device node or MAJOR:MINOR before the first key.
Outcome<std::vector<IoLimit>> parse_io_limit(std::string_view text);

}  // namespace layerfs::run
