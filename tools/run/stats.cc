#include "tools/run/stats.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <map>
#include <set>

#include "tools/common/progress.h"
#include "tools/run/procfs/use.h"

namespace layerfs::run {
namespace {

// Words of process_words().
constexpr std::size_t kParent = 1;
constexpr std::size_t kFirstTime = 11;  // user and system, of itself and of its dead children
constexpr std::size_t kTimes = 4;
constexpr std::size_t kResidentPages = 21;

std::uint64_t number(const std::string& text) {
  std::uint64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

// By the files that are there. From the end: the first may be of version 2 beside groups of
// version 1, and counts the processor's time whatever it is for.
CgroupDirs dirs_of(const std::vector<std::string>& groups) {
  const auto with = [&](const char* file) {
    const auto found = std::find_if(groups.rbegin(), groups.rend(), [&](const auto& group) {
      return ::access((group + "/" + file).c_str(), F_OK) == 0;
    });
    return found == groups.rend() ? std::string() : *found;
  };
  return {.memory = with("memory.stat"),
          .cpu = with("cpu.stat"),
          .cpuacct = with("cpuacct.usage"),
          .cpuset = {},
          .pids = with("pids.current"),
          .io = {}};
}

std::string pid_namespace(pid_t pid) {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/" + std::to_string(pid) + "/ns/pid", error).string();
}

struct Process {
  std::vector<std::string> words;
  std::string pid_namespace;  // "": it is not shown to us
  bool is_inside = false;
};

// The first and its descendants, and those of their pid namespaces that have another parent:
// `exec` started them.
std::map<pid_t, Process> processes_of(pid_t first) {
  std::map<pid_t, Process> all;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
    const auto pid = static_cast<pid_t>(number(entry.path().filename().string()));
    if (pid > 0) {
      all[pid] = {process_words(pid), pid_namespace(pid), pid == first};
    }
  }
  std::erase_if(all, [](const auto& one) { return one.second.words.size() <= kResidentPages; });
  std::set<std::string> namespaces;
  const std::string host = pid_namespace(::getpid());
  for (bool found = true; found;) {
    found = false;
    for (auto& [pid, process] : all) {
      const auto parent = all.find(static_cast<pid_t>(number(process.words[kParent])));
      const bool is_child = parent != all.end() && parent->second.is_inside;
      if (!process.is_inside && (is_child || namespaces.contains(process.pid_namespace))) {
        process.is_inside = true;
        found = true;
      }
      if (process.is_inside && !process.pid_namespace.empty() && process.pid_namespace != host) {
        found = namespaces.insert(process.pid_namespace).second || found;
      }
    }
  }
  std::erase_if(all, [](const auto& one) { return !one.second.is_inside; });
  return all;
}

}  // namespace

ContainerUse use_of(const ContainerState& state) {
  const CgroupDirs dirs = dirs_of(state.cgroups);
  const auto memory = memory_use(dirs);
  const CpuUse cpu = cpu_use(dirs);
  const auto pids = pids_use(dirs);
  ContainerUse use;
  if (!cpu.total || !memory || !pids) {
    const auto tick_us = 1'000'000 / static_cast<std::uint64_t>(::sysconf(_SC_CLK_TCK));
    const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    for (const auto& [pid, process] : processes_of(state.pid)) {
      ++use.processes;
      use.memory += number(process.words[kResidentPages]) * page;
      for (std::size_t i = 0; i < kTimes; ++i) {
        use.cpu_us += number(process.words[kFirstTime + i]) * tick_us;
      }
    }
  }
  use.cpu_us = cpu.total.value_or(use.cpu_us);
  use.periods = cpu.periods;
  use.throttled = cpu.throttled;
  if (memory) {
    use.memory = memory->used;
    use.most_memory = memory->limit;
    use.memory_peak = memory->peak;
  }
  if (pids) {
    use.processes = pids->used;
    use.most_processes = pids->limit;
  }
  return use;
}

std::string use_text(const ContainerUse& use, const ContainerUse* before, double seconds) {
  constexpr std::uint64_t kMicro = 1'000'000;
  const std::uint64_t hundredths = use.cpu_us % kMicro / 10'000;
  std::string out = "cpu        " + std::to_string(use.cpu_us / kMicro) +
                    (hundredths < 10 ? ".0" : ".") + std::to_string(hundredths) + " s";
  if (before != nullptr) {
    const std::uint64_t used = use.cpu_us - std::min(use.cpu_us, before->cpu_us);
    const double share = static_cast<double>(used) / static_cast<double>(kMicro) / seconds;
    out += ", " + std::to_string(std::lround(share * 100)) + "% of a processor";
  }
  if (use.periods > 0) {
    out += ", throttled in " + std::to_string(use.throttled * 100 / use.periods) + "% of periods";
  }
  out += "\nmemory     " + format_bytes(use.memory);
  if (use.most_memory) {
    out += " of " + format_bytes(*use.most_memory);
  }
  if (use.memory_peak) {
    out += ", at most " + format_bytes(*use.memory_peak);
  }
  out += "\nprocesses  " + std::to_string(use.processes);
  if (use.most_processes) {
    out += " of " + std::to_string(*use.most_processes);
  }
  return out + "\n";
}

}  // namespace layerfs::run
