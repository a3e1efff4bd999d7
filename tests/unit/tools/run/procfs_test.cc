#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>

#include "tests/testlib/files.h"
#include "tools/run/procfs/views.h"
#include "tools/run/stats.h"

using namespace layerfs;
using namespace layerfs::run;
using layerfs::testing::TempDir;

namespace {

using Path = std::filesystem::path;

void put(const Path& path, const std::string& text) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path) << text;
}

constexpr std::uint64_t kMega = 1 << 20;

// As a v2 machine has them, a limit of the group above included.
CgroupDirs second_version(const Path& root) {
  put(root / "cgroup.procs", "");
  put(root / "above/memory.max", "314572800\n");
  put(root / "above/memory.swap.max", "max\n");
  put(root / "above/cpu.max", "150000 100000\n");
  const Path group = root / "above/payload";
  put(group / "memory.max", "536870912\n");
  put(group / "memory.current", "104857600\n");
  put(group / "memory.swap.max", "1048576\n");
  put(group / "memory.swap.current", "524288\n");
  put(group / "memory.stat",
      "anon 1048576\nfile 20971520\nkernel_stack 16384\nshmem 4096\nfile_mapped 8192\n"
      "inactive_anon 0\nactive_anon 1048576\ninactive_file 10485760\nactive_file 5242880\n"
      "unevictable 0\nslab_reclaimable 2097152\nslab_unreclaimable 1048576\n");
  put(group / "cpu.max", "max 100000\n");
  put(group / "cpu.stat", "usage_usec 3000000\nuser_usec 2000000\nsystem_usec 1000000\n");
  put(group / "cpuset.cpus.effective", "1,3-4\n");
  put(group / "pids.current", "7\n");
  put(group / "io.stat", "8:0 rbytes=4096 wbytes=1024 rios=3 wios=2 dbytes=0 dios=0\n");
  const std::string one = group;
  return {one, one, one, one, one, one};
}

// As a v1 machine has them: a tree for each controller.
CgroupDirs first_version(const Path& root) {
  CgroupDirs out;
  const auto group = [&](const char* controller) { return root / controller / "box"; };
  put(root / "memory/memory.limit_in_bytes", "9223372036854771712\n");
  put(group("memory") / "memory.limit_in_bytes", "536870912\n");
  put(group("memory") / "memory.memsw.limit_in_bytes", "637534208\n");
  put(group("memory") / "memory.usage_in_bytes", "104857600\n");
  put(group("memory") / "memory.stat",
      "cache 1\ntotal_cache 20971520\ntotal_rss 1048576\ntotal_swap 524288\n"
      "total_inactive_file 10485760\ntotal_active_file 5242880\n");
  put(group("cpu") / "cpu.cfs_quota_us", "-1\n");
  put(group("cpu") / "cpu.cfs_period_us", "100000\n");
  put(root / "cpu/cpu.cfs_quota_us", "50000\n");
  put(root / "cpu/cpu.cfs_period_us", "100000\n");
  put(group("cpuacct") / "cpuacct.usage_user", "2000000000\n");
  put(group("cpuacct") / "cpuacct.usage_sys", "1000000000\n");
  put(group("cpuset") / "cpuset.effective_cpus", "0-1\n");
  put(group("pids") / "pids.current", "7\n");
  put(group("blkio") / "blkio.throttle.io_service_bytes",
      "8:0 Read 4096\n8:0 Write 1024\n8:0 Total 5120\nTotal 5120\n");
  put(group("blkio") / "blkio.throttle.io_serviced", "8:0 Read 3\n8:0 Write 2\nTotal 5\n");
  return {group("memory"), group("cpu"),  group("cpuacct"),
          group("cpuset"), group("pids"), group("blkio")};
}

const char* const kHostMemory =
    "MemTotal:       16000000 kB\nMemFree:         8000000 kB\nMemAvailable:    9000000 kB\n"
    "Buffers:          100000 kB\nCached:          2000000 kB\nSwapTotal:       2000000 kB\n"
    "SwapFree:        1999999 kB\nSlab:             300000 kB\nHugePages_Total:       5\n"
    "Hugepagesize:       2048 kB\n";

std::uint64_t line(const std::string& text, const std::string& name) {
  const std::size_t start = text.find(name + ":");
  REQUIRE(start != std::string::npos);
  return std::stoull(text.substr(start + name.size() + 1));
}

}  // namespace

TEST_CASE("procfs: of v2 groups the least limit of the group and those above holds") {
  const TempDir dir;
  const CgroupDirs dirs = second_version(dir.path());
  const auto memory = memory_use(dirs);
  REQUIRE(memory);
  CHECK(memory->limit == 300 * kMega);
  CHECK(memory->swap_limit == kMega);
  CHECK(memory->used == 100 * kMega);
  const CpuUse cpu = cpu_use(dirs);
  CHECK(cpu.quota == 1.5);
  CHECK(cpu.processors == std::vector<unsigned>{1, 3, 4});
  CHECK(cpu.user == 2000000);
  CHECK(pids_use(dirs)->used == 7);
  CHECK(device_use(dirs)->at("8:0").written_bytes == 1024);
}

TEST_CASE(
    "procfs: of v1 groups no limit is the largest number, and swap is what is beyond memory") {
  const TempDir dir;
  const CgroupDirs dirs = first_version(dir.path());
  const auto memory = memory_use(dirs);
  REQUIRE(memory);
  CHECK(memory->limit == 512 * kMega);
  CHECK(memory->swap_limit == 96 * kMega);
  CHECK(memory->file == 20 * kMega);
  CHECK(memory->swap_used == kMega / 2);
  const CpuUse cpu = cpu_use(dirs);
  CHECK(cpu.quota == 0.5);
  CHECK(cpu.system == 1000000);
  CHECK(device_use(dirs)->at("8:0").reads == 3);
  CHECK(device_use(dirs)->at("8:0").read_bytes == 4096);
}

TEST_CASE("stats: a container uses what its groups count, in both versions") {
  const TempDir dir;
  put(dir.path() / Path("above/pids.max"), "max\n");
  put(dir.path() / Path("above/payload/pids.max"), "9\n");
  put(dir.path() / Path("above/payload/memory.peak"), "209715200\n");
  const CgroupDirs second = second_version(dir.path());
  const CgroupDirs first = first_version(dir.at("first"));
  put(Path(first.cpu) / "cpu.stat", "nr_periods 8\nnr_throttled 2\nthrottled_time 5\n");
  put(Path(first.cpuacct) / "cpuacct.usage", "3000000999\n");
  put(Path(first.memory) / "memory.max_usage_in_bytes", "209715200\n");
  put(Path(first.pids) / "pids.max", "9\n");
  ContainerState state;
  state.cgroups = {second.memory};
  const ContainerUse of_second = use_of(state);
  // The first is of version 2 and made for another controller: it counts the time, too.
  state.cgroups = {dir.at("above"), first.io, first.cpu, first.cpuacct, first.memory, first.pids};
  put(dir.path() / Path("above/cpu.stat"), "usage_usec 77\nuser_usec 77\nsystem_usec 0\n");
  const ContainerUse of_first = use_of(state);
  CHECK(of_first.periods == 8);
  CHECK(of_first.throttled == 2);
  CHECK(of_second.most_memory == 300 * kMega);
  CHECK(of_first.most_memory == 512 * kMega);
  for (const ContainerUse& use : {of_first, of_second}) {
    CHECK(use.cpu_us == 3000000);
    CHECK(use.memory == 100 * kMega);
    CHECK(use.memory_peak == 200 * kMega);
    CHECK(use.processes == 7);
    CHECK(use.most_processes == 9);
  }
}

TEST_CASE("procfs: without a group nothing is known, rather than nothing used") {
  CHECK_FALSE(memory_use({}));
  CHECK_FALSE(cpu_use({}).user);
  CHECK_FALSE(pids_use({}));
  CHECK_FALSE(device_use({}));
  const TempDir dir;
  CgroupDirs gone;
  gone.memory = gone.io = gone.pids = dir.at("gone");
  CHECK_FALSE(memory_use(gone));
  CHECK_FALSE(device_use(gone));
}

TEST_CASE("procfs: meminfo has the limit as total, and settings of the machine stay") {
  const TempDir dir;
  const std::string text = meminfo_view(kHostMemory, *memory_use(second_version(dir.path())));
  CHECK(line(text, "MemTotal") == 300 * 1024);
  CHECK(line(text, "MemFree") == 200 * 1024);
  CHECK(line(text, "MemAvailable") == (200 + 15 + 2) * 1024);
  CHECK(line(text, "Cached") == 20 * 1024);
  CHECK(line(text, "Buffers") == 0);
  CHECK(line(text, "SwapTotal") == 1024);
  CHECK(line(text, "SwapFree") == 512);
  CHECK(line(text, "Slab") == 3 * 1024);
  CHECK(line(text, "HugePages_Total") == 5);
  CHECK(line(text, "Hugepagesize") == 2048);
}

TEST_CASE("procfs: a limit beyond the machine's memory is the machine's memory") {
  MemoryUse use;
  use.limit = 1ULL << 50;
  use.swap_limit = 1ULL << 50;
  CHECK(line(meminfo_view(kHostMemory, use), "MemTotal") == 16000000);
  CHECK(line(meminfo_view(kHostMemory, use), "SwapTotal") == 2000000);
  use.used = use.limit.value();
  CHECK(line(meminfo_view(kHostMemory, use), "MemFree") == 0);
}

TEST_CASE("procfs: processors are what quota, cpuset and machine leave, at least one") {
  CHECK(visible_processors({}, 8) == 8);
  CHECK(visible_processors({.quota = 0.1, .processors = {}, .user = {}, .system = {}}, 8) == 1);
  CHECK(visible_processors({.quota = 1.5, .processors = {}, .user = {}, .system = {}}, 8) == 2);
  CHECK(visible_processors({.quota = 99, .processors = {}, .user = {}, .system = {}}, 8) == 8);
  CHECK(visible_processors({.quota = 3, .processors = {1, 2}, .user = {}, .system = {}}, 8) == 2);
}

TEST_CASE("procfs: cpuinfo has the blocks of the cpuset, numbered from 0") {
  const std::string host =
      "processor\t: 0\nmodel\t: a\n\nprocessor\t: 1\nmodel\t: b\n\nprocessor\t: 2\nmodel\t: c\n\n";
  CHECK(cpuinfo_view(host, {.quota = {}, .processors = {1, 2}, .user = {}, .system = {}}, 2) ==
        "processor\t: 0\nmodel\t: b\n\nprocessor\t: 1\nmodel\t: c\n\n");
  CHECK(cpuinfo_view(host + "Hardware\t: x\n", {}, 1) ==
        "processor\t: 0\nmodel\t: a\n\nHardware\t: x\n");
}

TEST_CASE("procfs: in stat the processors add up to the whole, and what is not used is idle") {
  const CpuUse use{.quota = {}, .processors = {}, .user = 2000000, .system = 1010000};
  const Clock clock{10000000, 77};
  CHECK(stat_view(use, 2, clock, 3, 9)
            .starts_with("cpu  200 0 101 1699 0 0 0 0 0 0\ncpu0 100 0 51 850 0 0 0 0 0 0\n"
                         "cpu1 100 0 50 849 0 0 0 0 0 0\nintr 0\n"));
  CHECK(stat_view(use, 2, clock, 3, 9).find("btime 77\nprocesses 9\nprocs_running 3\n") !=
        std::string::npos);
  CHECK(uptime_view(use, 2, clock) == "10.00 16.99\n");
}

TEST_CASE("procfs: diskstats tells of the devices that the container has used") {
  const std::string host =
      "   8       0 sda 1 2 3 4 5 6 7 8 9 10 11\n   8      16 sdb 1 2 3 4 5 6 7 8 9 10 11\n";
  CHECK(diskstats_view(host, {{"8:0", {3, 4096, 2, 1024}}}) ==
        "   8       0 sda 3 0 8 0 2 0 2 0 0 0 0 0 0 0 0 0 0\n");
}

TEST_CASE("procfs: swap is one device of the size that is allowed") {
  MemoryUse use;
  use.swap_limit = kMega;
  use.swap_used = 4096;
  const std::string text = swaps_view(kHostMemory, use);
  CHECK(text.find("virtual\t1024\t\t4\t\t0\n") != std::string::npos);
  use.swap_limit = 0;
  CHECK(swaps_view(kHostMemory, use).find("virtual") == std::string::npos);
  CHECK(online_view(1) == "0\n");
  CHECK(online_view(4) == "0-3\n");
}

TEST_CASE("procfs: the load of a minute of two running threads is near to 1.26") {
  LoadAverage load;
  for (int i = 0; i < 12; ++i) {
    load.sample({2, 5});
  }
  CHECK(load.view() == "1.26 0.36 0.13 2/5 5\n");
}
