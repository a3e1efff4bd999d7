// The texts of /proc as a container should see them: the host's text and the container's
// use in, the container's text out. Pure.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tools/run/procfs/use.h"

namespace layerfs::run {

// How many processors the container can keep busy, of `host` ones: what its quota rounded
// up and its cpuset leave.
unsigned visible_processors(const CpuUse& use, unsigned host);

// Lines whose value is not known of a container are 0, but for those that are settings of
// the machine.
std::string meminfo_view(std::string_view host, const MemoryUse& use);
// The blocks of as many processors, of its cpuset first, numbered from 0.
std::string cpuinfo_view(std::string_view host, const CpuUse& use, unsigned processors);

struct Clock {
  std::uint64_t up = 0;     // microseconds since the container began
  std::uint64_t begin = 0;  // seconds since 1970 when it did
};
// Time that no processor of the container was used is idle.
std::string stat_view(const CpuUse& use, unsigned processors, const Clock& clock,
                      std::uint64_t running, std::uint64_t threads);
std::string uptime_view(const CpuUse& use, unsigned processors, const Clock& clock);

// The host's devices that the container has used.
std::string diskstats_view(std::string_view host, const std::map<std::string, DeviceUse>& use);
std::string swaps_view(std::string_view host_meminfo, const MemoryUse& use);
std::string online_view(unsigned processors);

// The three averages, as the kernel makes them: each sample decays what was before.
class LoadAverage {
 public:
  static constexpr std::chrono::seconds kInterval{5};
  void sample(const ThreadCount& count);
  std::string view() const;

 private:
  std::array<double, 3> averages_{};
  ThreadCount last_;
};

}  // namespace layerfs::run
