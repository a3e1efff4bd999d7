// What a container may use and uses, from the files of its control groups.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace layerfs::run {

// The container's group for each controller; "": it has none of its own. The names of the
// files tell v1 from v2.
struct CgroupDirs {
  std::string memory;
  std::string cpu;
  std::string cpuacct;  // v1; of v2 the same as cpu
  std::string cpuset;
  std::string pids;
  std::string io;
  friend bool operator==(const CgroupDirs&, const CgroupDirs&) = default;
};

// Each limit is the least of the group's own and of those of all above.
struct MemoryUse {
  std::optional<std::uint64_t> limit;
  std::uint64_t used = 0;  // page cache included
  std::uint64_t file = 0;  // shmem included
  std::uint64_t shmem = 0;
  std::uint64_t anon = 0;
  std::uint64_t mapped = 0;
  std::uint64_t dirty = 0;
  std::uint64_t writeback = 0;
  std::uint64_t active_anon = 0;
  std::uint64_t inactive_anon = 0;
  std::uint64_t active_file = 0;
  std::uint64_t inactive_file = 0;
  std::uint64_t unevictable = 0;
  std::uint64_t slab_reclaimable = 0;
  std::uint64_t slab_unreclaimable = 0;
  std::uint64_t kernel_stack = 0;
  std::uint64_t page_tables = 0;
  std::optional<std::uint64_t> swap_limit;
  std::uint64_t swap_used = 0;
  std::optional<std::uint64_t> peak;
};

struct CpuUse {
  std::optional<double> quota;       // processors
  std::vector<unsigned> processors;  // of its cpuset; empty: all
  // Microseconds. v1 counts the sum to the nanosecond, its parts by ticks.
  std::optional<std::uint64_t> total = {}, user, system;
  std::uint64_t periods = 0, throttled = 0;  // of its own quota
};

struct PidsUse {
  std::uint64_t used = 0;
  std::optional<std::uint64_t> limit;
};

struct DeviceUse {
  std::uint64_t reads = 0, read_bytes = 0, writes = 0, written_bytes = 0;
};

// "0-2,5" as the kernel writes it. What is not understood is left out.
std::vector<unsigned> parse_processors(std::string_view text);

// nullopt: there is no such group, or it cannot be read; then the host's values hold.
std::optional<MemoryUse> memory_use(const CgroupDirs& dirs);
CpuUse cpu_use(const CgroupDirs& dirs);
std::optional<PidsUse> pids_use(const CgroupDirs& dirs);
// By "MAJOR:MINOR".
std::optional<std::map<std::string, DeviceUse>> device_use(const CgroupDirs& dirs);
// The threads of the container that run or wait for a disk, and all of them. A count stops
// at some thousands.
struct ThreadCount {
  std::uint64_t running = 0, all = 0;
};
ThreadCount count_threads(const CgroupDirs& dirs);

}  // namespace layerfs::run
