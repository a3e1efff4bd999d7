#include "tools/run/procfs/use.h"

#include <algorithm>
#include <charconv>
#include <sstream>
#include <utility>

#include "tools/run/cgroup.h"
#include "tools/run/text_file.h"

namespace layerfs::run {
namespace {

// The kernel's word for none in v1: the largest number of whole pages.
constexpr std::uint64_t kNoLimit = 1ULL << 62;
constexpr std::uint64_t kMostThreads = 4096;

std::optional<std::string> text_of(const std::string& group, const char* file) {
  if (group.empty()) {
    return std::nullopt;
  }
  auto text = read_text_if_there(group + "/" + file);
  return text ? *std::move(text) : std::nullopt;
}

// nullopt: no such file, or "max".
std::optional<std::uint64_t> number(const std::optional<std::string>& text) {
  std::uint64_t value = 0;
  if (!text) {
    return std::nullopt;
  }
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
  return error == std::errc() ? std::optional(value) : std::nullopt;
}

template <class T>
std::optional<T> least(std::optional<T> a, std::optional<T> b) {
  return a && b ? std::min(*a, *b) : a ? a : b;
}

// `look` of the group and of those above it, as far as they have the file.
template <class T, class Look>
std::optional<T> least_above(std::string group, const char* file, Look look) {
  std::optional<T> out;
  while (!group.empty()) {
    const auto text = text_of(group, file);
    if (!text) {
      break;
    }
    out = least(out, look(*text, group));
    group.resize(std::min(group.rfind('/'), group.size()));
  }
  return out;
}

std::optional<std::uint64_t> least_number(const std::string& group, const char* file) {
  const auto found = least_above<std::uint64_t>(
      group, file, [](const std::string& text, const std::string&) { return number(text); });
  return found && *found < kNoLimit ? found : std::nullopt;
}

MemoryUse memory_v2(const CgroupDirs& dirs, std::uint64_t used, const std::string& stat) {
  const auto value = [&](const char* key) { return value_of_key(stat, key); };
  return {.limit = least_number(dirs.memory, "memory.max"),
          .used = used,
          .file = value("file"),
          .shmem = value("shmem"),
          .anon = value("anon"),
          .mapped = value("file_mapped"),
          .dirty = value("file_dirty"),
          .writeback = value("file_writeback"),
          .active_anon = value("active_anon"),
          .inactive_anon = value("inactive_anon"),
          .active_file = value("active_file"),
          .inactive_file = value("inactive_file"),
          .unevictable = value("unevictable"),
          .slab_reclaimable = value("slab_reclaimable"),
          .slab_unreclaimable = value("slab_unreclaimable"),
          .kernel_stack = value("kernel_stack"),
          .page_tables = value("pagetables"),
          .swap_limit = least_number(dirs.memory, "memory.swap.max"),
          .swap_used = number(text_of(dirs.memory, "memory.swap.current")).value_or(0),
          .peak = number(text_of(dirs.memory, "memory.peak"))};
}

MemoryUse memory_v1(const CgroupDirs& dirs, std::uint64_t used, const std::string& stat) {
  const auto value = [&](const std::string& key) { return value_of_key(stat, "total_" + key); };
  MemoryUse out{.limit = least_number(dirs.memory, "memory.limit_in_bytes"),
                .used = used,
                .file = value("cache"),
                .shmem = value("shmem"),
                .anon = value("rss"),
                .mapped = value("mapped_file"),
                .dirty = value("dirty"),
                .writeback = value("writeback"),
                .active_anon = value("active_anon"),
                .inactive_anon = value("inactive_anon"),
                .active_file = value("active_file"),
                .inactive_file = value("inactive_file"),
                .unevictable = value("unevictable"),
                .swap_limit = {},
                .swap_used = value("swap"),
                .peak = number(text_of(dirs.memory, "memory.max_usage_in_bytes"))};
  // Memory and swap are one number there.
  if (const auto both = least_number(dirs.memory, "memory.memsw.limit_in_bytes")) {
    out.swap_limit = *both - std::min(*both, out.limit.value_or(0));
  }
  return out;
}

std::optional<double> quota_v2(const std::string& text, const std::string& /*group*/) {
  std::istringstream words(text);
  double quota = 0;
  double period = 0;
  return words >> quota >> period && period > 0 ? std::optional(quota / period) : std::nullopt;
}

std::optional<double> quota_v1(const std::string& text, const std::string& group) {
  const auto quota = number(text);  // -1 for none is no number
  const auto period = number(text_of(group, "cpu.cfs_period_us"));
  return quota && period && *period > 0
             ? std::optional(static_cast<double>(*quota) / static_cast<double>(*period))
             : std::nullopt;
}

// Lines "MAJOR:MINOR Read N" of v1.
void add_v1(const std::string& text, std::map<std::string, DeviceUse>& out,
            std::uint64_t DeviceUse::*read, std::uint64_t DeviceUse::*write) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string device;
    std::string what;
    std::uint64_t value = 0;
    if (words >> device >> what >> value && (what == "Read" || what == "Write")) {
      out[device].*(what == "Read" ? read : write) = value;
    }
  }
}

// Lines "MAJOR:MINOR rbytes=N wbytes=N rios=N wios=N ..." of v2.
void add_v2(const std::string& text, std::map<std::string, DeviceUse>& out) {
  constexpr std::pair<std::string_view, std::uint64_t DeviceUse::*> kKeys[] = {
      {"rbytes=", &DeviceUse::read_bytes},
      {"wbytes=", &DeviceUse::written_bytes},
      {"rios=", &DeviceUse::reads},
      {"wios=", &DeviceUse::writes}};
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string device;
    words >> device;
    for (std::string word; words >> word;) {
      for (const auto& [key, member] : kKeys) {
        if (word.starts_with(key)) {
          out[device].*member = number(word.substr(key.size())).value_or(0);
        }
      }
    }
  }
}

// R runs, D waits for a disk: what the kernel's load counts.
bool counts_as_load(const std::string& thread) {
  const auto stat = read_text_if_there("/proc/" + thread + "/stat");
  if (!stat || !*stat) {
    return false;
  }
  const std::size_t end = (*stat)->rfind(')');
  const char state = end != std::string::npos && end + 2 < (*stat)->size() ? (**stat)[end + 2] : 0;
  return state == 'R' || state == 'D';
}

}  // namespace

std::vector<unsigned> parse_processors(std::string_view text) {
  std::vector<unsigned> out;
  std::istringstream ranges{std::string(text)};
  for (std::string range; std::getline(ranges, range, ',');) {
    unsigned first = 0;
    unsigned last = 0;
    const int found = std::sscanf(range.c_str(), "%u-%u", &first, &last);
    constexpr unsigned kMost = 1U << 16;
    if (found < 1 || first > kMost || (found == 2 && last > kMost)) {
      continue;
    }
    for (unsigned i = first; i <= (found == 2 ? last : first); ++i) {
      out.push_back(i);
    }
  }
  return out;
}

std::optional<MemoryUse> memory_use(const CgroupDirs& dirs) {
  const auto stat = text_of(dirs.memory, "memory.stat");
  if (!stat) {
    return std::nullopt;
  }
  if (const auto used = number(text_of(dirs.memory, "memory.current"))) {
    return memory_v2(dirs, *used, *stat);
  }
  const auto used = number(text_of(dirs.memory, "memory.usage_in_bytes"));
  return used ? std::optional(memory_v1(dirs, *used, *stat)) : std::nullopt;
}

CpuUse cpu_use(const CgroupDirs& dirs) {
  CpuUse out;
  out.quota = least(least_above<double>(dirs.cpu, "cpu.max", quota_v2),
                    least_above<double>(dirs.cpu, "cpu.cfs_quota_us", quota_v1));
  for (const char* file : {"cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus"}) {
    const auto text = text_of(dirs.cpuset, file);
    if (text && out.processors.empty()) {
      out.processors = parse_processors(*text);
    }
  }
  const auto stat = text_of(dirs.cpu, "cpu.stat");
  if (stat) {
    out.periods = value_of_key(*stat, "nr_periods");
    out.throttled = value_of_key(*stat, "nr_throttled");
  }
  if (stat && stat->find("usage_usec ") != std::string::npos) {
    out.total = value_of_key(*stat, "usage_usec");
    out.user = value_of_key(*stat, "user_usec");
    out.system = value_of_key(*stat, "system_usec");
    return out;
  }
  constexpr std::uint64_t kNanos = 1000;
  if (const auto total = number(text_of(dirs.cpuacct, "cpuacct.usage"))) {
    out.total = *total / kNanos;
  }
  const auto user = number(text_of(dirs.cpuacct, "cpuacct.usage_user"));
  const auto system = number(text_of(dirs.cpuacct, "cpuacct.usage_sys"));
  if (user && system) {
    out.user = *user / kNanos;
    out.system = *system / kNanos;
  }
  return out;
}

std::optional<PidsUse> pids_use(const CgroupDirs& dirs) {
  const auto used = number(text_of(dirs.pids, "pids.current"));
  return used ? std::optional(PidsUse{*used, least_number(dirs.pids, "pids.max")}) : std::nullopt;
}

std::optional<std::map<std::string, DeviceUse>> device_use(const CgroupDirs& dirs) {
  std::map<std::string, DeviceUse> out;
  if (const auto stat = text_of(dirs.io, "io.stat")) {
    add_v2(*stat, out);
    return out;
  }
  const auto bytes = text_of(dirs.io, "blkio.throttle.io_service_bytes");
  const auto count = text_of(dirs.io, "blkio.throttle.io_serviced");
  if (!bytes || !count) {
    return std::nullopt;
  }
  add_v1(*bytes, out, &DeviceUse::read_bytes, &DeviceUse::written_bytes);
  add_v1(*count, out, &DeviceUse::reads, &DeviceUse::writes);
  return out;
}

ThreadCount count_threads(const CgroupDirs& dirs) {
  ThreadCount out;
  for (const std::string* group : {&dirs.pids, &dirs.memory, &dirs.cpu}) {
    for (const char* file : {"cgroup.threads", "tasks"}) {
      const auto text = text_of(*group, file);
      std::istringstream threads(text.value_or(std::string()));
      for (std::string thread; out.all < kMostThreads && threads >> thread;) {
        ++out.all;
        out.running += counts_as_load(thread) ? 1 : 0;
      }
      if (out.all > 0) {
        return out;
      }
    }
  }
  return out;
}

}  // namespace layerfs::run
