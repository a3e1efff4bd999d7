#include "tools/run/cgroup.h"

#include <catch2/catch.hpp>

using namespace layerfs;
using namespace layerfs::run;

namespace {

// "file=value" of each write, in order.
std::vector<std::string> texts(const Limits& limits, CgroupVersion version) {
  std::vector<std::string> out;
  const auto writes = writes_for(limits, version);
  REQUIRE(writes);
  for (const CgroupWrite& write : *writes) {
    out.push_back(write.file + "=" + write.value);
  }
  return out;
}

using Texts = std::vector<std::string>;

}  // namespace

TEST_CASE("cgroup: 1024 shares are the weight of every other group") {
  CHECK(weight_of_shares(0) == 1);
  CHECK(weight_of_shares(2) == 1);
  CHECK(weight_of_shares(256) == 35);
  CHECK(weight_of_shares(512) == 59);
  CHECK(weight_of_shares(1024) == 100);
  CHECK(weight_of_shares(2048) == 174);
  CHECK(weight_of_shares(262144) == 10000);
}

TEST_CASE("cgroup: I/O weights of v1 span those of v2") {
  CHECK(io_weight_of(10) == 1);
  CHECK(io_weight_of(500) == 4950);
  CHECK(io_weight_of(1000) == 10000);
}

TEST_CASE("cgroup: swap is what --memory-swap has beyond --memory") {
  Limits limits;
  limits.memory = 100;
  CHECK(texts(limits, CgroupVersion::V2) ==
        Texts{"memory.swap.max=100", "memory.max=100", "memory.oom.group=1"});
  limits.memory_swap = 100;
  CHECK(texts(limits, CgroupVersion::V2)[0] == "memory.swap.max=0");
  limits.memory_swap = -1;
  CHECK(texts(limits, CgroupVersion::V2)[0] == "memory.swap.max=max");
  CHECK(texts(limits, CgroupVersion::V1) ==
        Texts{"memory.limit_in_bytes=100", "memory.memsw.limit_in_bytes=-1"});
  limits.memory_swap = 99;
  CHECK_FALSE(writes_for(limits, CgroupVersion::V2));
  limits.memory.reset();
  CHECK_FALSE(writes_for(limits, CgroupVersion::V2));
}

TEST_CASE("cgroup: processor time is a quota of a period of 100 ms") {
  Limits limits;
  limits.cpus = 0.5;
  CHECK(texts(limits, CgroupVersion::V2) == Texts{"cpu.max=50000 100000"});
  CHECK(texts(limits, CgroupVersion::V1) ==
        Texts{"cpu.cfs_period_us=100000", "cpu.cfs_quota_us=50000"});
  limits.cpus = 0.001;
  CHECK_FALSE(writes_for(limits, CgroupVersion::V2));
}

TEST_CASE("cgroup: no limit of processes is 'max'") {
  Limits limits;
  limits.pids = 0;
  CHECK(texts(limits, CgroupVersion::V2) == Texts{"pids.max=max"});
  limits.pids = 7;
  CHECK(texts(limits, CgroupVersion::V1) == Texts{"pids.max=7"});
}

TEST_CASE("cgroup: limits of I/O are on the group of payload and daemon together") {
  Limits limits;
  const auto io = parse_io_limit("8:0:rbps=1m,wiops=10");
  REQUIRE(io);
  limits.io = *io;
  CHECK(texts(limits, CgroupVersion::V2) ==
        Texts{"io.max=8:0 rbps=1048576", "io.max=8:0 wiops=10"});
  CHECK(texts(limits, CgroupVersion::V1) == Texts{"blkio.throttle.read_bps_device=8:0 1048576",
                                                  "blkio.throttle.write_iops_device=8:0 10"});
  for (const CgroupWrite& write : *writes_for(limits, CgroupVersion::V2)) {
    CHECK(write.for_both);
  }
  for (const char* text : {"", "8:0", "8:0:speed=1", "8:0:rbps", "x:rbps=1", "/dev/null:rbps=1"}) {
    INFO(text);
    CHECK_FALSE(parse_io_limit(text));
  }
}

TEST_CASE("cgroup: places are found for v1, v2 and both") {
  const auto mount = [](const char* point, const char* type, const char* options) {
    MountEntry entry;
    entry.mount_point = point;
    entry.type = type;
    entry.super_options = options;
    return entry;
  };
  const auto hybrid = find_cgroup_places(
      {mount("/c/cpu", "cgroup", "rw,cpu,cpuacct"), mount("/c/memory", "cgroup", "rw,memory"),
       mount("/c/unified", "cgroup2", "rw")},
      "4:memory:/a/b\n1:cpu,cpuacct:/\n0::/x\n");
  CHECK(hybrid.at("memory").mount == "/c/memory");
  CHECK(hybrid.at("memory").own == "/a/b");
  CHECK(hybrid.at("cpu").mount == "/c/cpu");
  CHECK(hybrid.at("cpuacct").version == CgroupVersion::V1);
  CHECK(hybrid.at("").own == "/x");
  const auto unified = find_cgroup_places({mount("/c", "cgroup2", "rw")}, "0::/user.slice/s\n");
  CHECK(unified.size() == 1);
  CHECK(unified.at("").own == "/user.slice/s");
}

TEST_CASE("cgroup: a key is a whole word") {
  CHECK(value_of_key("oom 3\noom_kill 2\n", "oom_kill") == 2);
  CHECK(value_of_key("oom_kill_disable 1\nunder_oom 0\noom_kill 5", "oom_kill") == 5);
  CHECK(value_of_key("a 1\n", "b") == 0);
}
