#include "tools/run/procfs/views.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <sstream>

namespace layerfs::run {
namespace {

constexpr std::uint64_t kKilo = 1024;
constexpr std::uint64_t kSector = 512;
constexpr std::uint64_t kMicro = 1000000;
constexpr std::uint64_t kTick = 10000;  // microseconds: /proc counts in hundredths

// "MemTotal:  123 kB" -> 123; 0 if there is no such line.
std::uint64_t kilobytes(std::string_view text, std::string_view name) {
  const std::size_t start = text.find(std::string(name) + ":");
  if (start == std::string_view::npos) {
    return 0;
  }
  const std::size_t digit = text.find_first_of("0123456789", start + name.size());
  std::uint64_t value = 0;
  if (digit != std::string_view::npos) {
    std::from_chars(text.data() + digit, text.data() + text.size(), value);
  }
  return value;
}

std::uint64_t less(std::uint64_t a, std::uint64_t b) { return a > b ? a - b : 0; }

std::uint64_t total_memory(std::string_view host, const MemoryUse& use) {
  const std::uint64_t all = kilobytes(host, "MemTotal") * kKilo;
  return std::min(all, use.limit.value_or(all));
}

std::uint64_t total_swap(std::string_view host, const MemoryUse& use) {
  const std::uint64_t all = kilobytes(host, "SwapTotal") * kKilo;
  return std::min(all, use.swap_limit.value_or(all));
}

std::map<std::string, std::uint64_t> memory_lines(std::string_view host, const MemoryUse& use) {
  const std::uint64_t total = total_memory(host, use);
  const std::uint64_t swap = total_swap(host, use);
  const std::uint64_t free = less(total, use.used);
  return {{"MemTotal", total},
          {"MemFree", free},
          {"MemAvailable",
           std::min(total, free + use.active_file + use.inactive_file + use.slab_reclaimable)},
          {"Cached", use.file},
          {"Active", use.active_anon + use.active_file},
          {"Inactive", use.inactive_anon + use.inactive_file},
          {"Active(anon)", use.active_anon},
          {"Inactive(anon)", use.inactive_anon},
          {"Active(file)", use.active_file},
          {"Inactive(file)", use.inactive_file},
          {"Unevictable", use.unevictable},
          {"SwapTotal", swap},
          {"SwapFree", less(swap, use.swap_used)},
          {"Dirty", use.dirty},
          {"Writeback", use.writeback},
          {"AnonPages", use.anon},
          {"Mapped", use.mapped},
          {"Shmem", use.shmem},
          {"KReclaimable", use.slab_reclaimable},
          {"Slab", use.slab_reclaimable + use.slab_unreclaimable},
          {"SReclaimable", use.slab_reclaimable},
          {"SUnreclaim", use.slab_unreclaimable},
          {"KernelStack", use.kernel_stack},
          {"PageTables", use.page_tables}};
}

bool is_setting(std::string_view name) {
  return name == "CommitLimit" || name == "VmallocTotal" || name.starts_with("Huge") ||
         name == "Hugetlb";
}

template <class Each>
void each_line(std::string_view text, Each each) {
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    each(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

std::string line_of(const char* format, auto... values) {
  std::array<char, 256> buffer{};
  std::snprintf(buffer.data(), buffer.size(), format, values...);
  return buffer.data();
}

std::uint64_t used_time(const CpuUse& use) { return use.user.value_or(0) + use.system.value_or(0); }

std::string processor_line(const std::string& name, std::uint64_t user, std::uint64_t system,
                           std::uint64_t idle) {
  return line_of("%s %llu 0 %llu %llu 0 0 0 0 0 0\n", name.c_str(),
                 static_cast<unsigned long long>(user), static_cast<unsigned long long>(system),
                 static_cast<unsigned long long>(idle));
}

// "processor : 3" -> 3
std::optional<unsigned> processor_of(std::string_view block) {
  constexpr std::string_view kKey = "processor";
  unsigned number = 0;
  if (!block.starts_with(kKey)) {
    return std::nullopt;
  }
  const std::size_t digit = block.find_first_of("0123456789");
  const std::size_t end = block.find('\n');
  if (digit == std::string_view::npos || digit > end) {
    return std::nullopt;
  }
  std::from_chars(block.data() + digit, block.data() + block.size(), number);
  return number;
}

}  // namespace

unsigned visible_processors(const CpuUse& use, unsigned host) {
  unsigned out = std::max(host, 1U);
  if (!use.processors.empty()) {
    out = std::min(out, static_cast<unsigned>(use.processors.size()));
  }
  if (use.quota && *use.quota < out) {
    out = std::max(1U, static_cast<unsigned>(std::ceil(*use.quota)));
  }
  return out;
}

std::string meminfo_view(std::string_view host, const MemoryUse& use) {
  const auto known = memory_lines(host, use);
  std::string out;
  each_line(host, [&](std::string_view line) {
    const std::string_view name = line.substr(0, line.find(':'));
    const auto value = known.find(std::string(name));
    if (value == known.end() && is_setting(name)) {
      out += std::string(line) + "\n";
      return;
    }
    const std::uint64_t bytes = value == known.end() ? 0 : value->second;
    out += line_of("%-15s %8llu kB\n", (std::string(name) + ":").c_str(),
                   static_cast<unsigned long long>(bytes / kKilo));
  });
  return out;
}

std::string cpuinfo_view(std::string_view host, const CpuUse& use, unsigned processors) {
  std::string out;
  unsigned next = 0;
  while (!host.empty()) {
    const std::size_t gap = host.find("\n\n");
    const std::size_t size = gap == std::string_view::npos ? host.size() : gap + 2;
    const std::string_view block = host.substr(0, size);
    host.remove_prefix(size);
    const auto number = processor_of(block);
    if (!number) {
      out += block;  // of the machine as a whole
      continue;
    }
    const bool allowed =
        use.processors.empty() ||
        std::find(use.processors.begin(), use.processors.end(), *number) != use.processors.end();
    if (next < processors && allowed) {
      const std::size_t colon = block.find(':');
      out += std::string(block.substr(0, colon)) + ": " + std::to_string(next++) +
             std::string(block.substr(block.find('\n')));
    }
  }
  return out;
}

std::string stat_view(const CpuUse& use, unsigned processors, const Clock& clock,
                      std::uint64_t running, std::uint64_t threads) {
  const std::uint64_t user = use.user.value_or(0) / kTick;
  const std::uint64_t system = use.system.value_or(0) / kTick;
  const std::uint64_t idle = less(clock.up * processors / kTick, user + system);
  std::string out = processor_line("cpu ", user, system, idle);
  for (unsigned i = 0; i < processors; ++i) {
    // The rest is the first one's, so that they add up.
    const auto share = [&](std::uint64_t all) {
      return all / processors + (i == 0 ? all % processors : 0);
    };
    out += processor_line("cpu" + std::to_string(i), share(user), share(system), share(idle));
  }
  out += line_of(
      "intr 0\nctxt 0\nbtime %llu\nprocesses %llu\nprocs_running %llu\n"
      "procs_blocked 0\nsoftirq 0 0 0 0 0 0 0 0 0 0 0\n",
      static_cast<unsigned long long>(clock.begin), static_cast<unsigned long long>(threads),
      static_cast<unsigned long long>(std::max<std::uint64_t>(running, 1)));
  return out;
}

std::string uptime_view(const CpuUse& use, unsigned processors, const Clock& clock) {
  const auto seconds = [](std::uint64_t micro) {
    return static_cast<double>(micro) / static_cast<double>(kMicro);
  };
  return line_of("%.2f %.2f\n", seconds(clock.up),
                 seconds(less(clock.up * processors, used_time(use))));
}

std::string diskstats_view(std::string_view host, const std::map<std::string, DeviceUse>& use) {
  std::string out;
  each_line(host, [&](std::string_view line) {
    std::istringstream words{std::string(line)};
    unsigned major = 0;
    unsigned minor = 0;
    std::string name;
    words >> major >> minor >> name;
    const auto found = use.find(std::to_string(major) + ":" + std::to_string(minor));
    if (!words || found == use.end()) {
      return;
    }
    const DeviceUse& device = found->second;
    out += line_of("%4u %7u %s %llu 0 %llu 0 %llu 0 %llu 0 0 0 0 0 0 0 0 0 0\n", major, minor,
                   name.c_str(), static_cast<unsigned long long>(device.reads),
                   static_cast<unsigned long long>(device.read_bytes / kSector),
                   static_cast<unsigned long long>(device.writes),
                   static_cast<unsigned long long>(device.written_bytes / kSector));
  });
  return out;
}

std::string swaps_view(std::string_view host_meminfo, const MemoryUse& use) {
  std::string out = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";
  const std::uint64_t total = total_swap(host_meminfo, use);
  if (total > 0) {
    out += line_of("%-39s %s\t%llu\t\t%llu\t\t0\n", "none", "virtual",
                   static_cast<unsigned long long>(total / kKilo),
                   static_cast<unsigned long long>(use.swap_used / kKilo));
  }
  return out;
}

std::string online_view(unsigned processors) {
  return processors == 1 ? "0\n" : "0-" + std::to_string(processors - 1) + "\n";
}

void LoadAverage::sample(const ThreadCount& count) {
  constexpr std::array<double, 3> kMinutes = {1, 5, 15};
  last_ = count;
  for (std::size_t i = 0; i < averages_.size(); ++i) {
    const double decay =
        std::exp(-static_cast<double>(kInterval.count()) / (60.0 * kMinutes.at(i)));
    averages_.at(i) = averages_.at(i) * decay + static_cast<double>(count.running) * (1 - decay);
  }
}

std::string LoadAverage::view() const {
  return line_of("%.2f %.2f %.2f %llu/%llu %llu\n", averages_[0], averages_[1], averages_[2],
                 static_cast<unsigned long long>(last_.running),
                 static_cast<unsigned long long>(last_.all),
                 static_cast<unsigned long long>(last_.all));
}

}  // namespace layerfs::run
