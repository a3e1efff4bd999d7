#include "fs/client_follower.h"

#include <sys/types.h>
#include <unistd.h>

#include <thread>

#include <catch2/catch.hpp>

namespace layerfs {
namespace {

using namespace std::chrono_literals;
using Clock = ClientFollower::Clock;

// The first CPU that this process may use.
int own_cpu() {
  cpu_set_t set;
  CPU_ZERO(&set);
  REQUIRE(::sched_getaffinity(0, sizeof(set), &set) == 0);
  int cpu = 0;
  while (!CPU_ISSET(cpu, &set)) {
    ++cpu;
  }
  return cpu;
}

int count_of_allowed() {
  cpu_set_t set;
  CPU_ZERO(&set);
  REQUIRE(::sched_getaffinity(0, sizeof(set), &set) == 0);
  return CPU_COUNT(&set);
}

}  // namespace

TEST_CASE("one client is followed to its CPU, and looked for again only after a while") {
  int looks = 0;
  const int cpu = own_cpu();
  ClientFollower follower([&](pid_t) {
    ++looks;
    return std::optional(cpu);
  });
  const Clock::time_point start = Clock::now();
  for (int i = 0; i < 1000; ++i) {
    follower.request_of(7, start);
  }
  CHECK(follower.wanted() == cpu);
  CHECK(looks == 1);
  follower.request_of(7, start + 1s);
  CHECK(looks == 2);
}

TEST_CASE("clients that ask in turn are followed nowhere, until one is alone again") {
  const int cpu = own_cpu();
  ClientFollower follower([&](pid_t) { return std::optional(cpu); });
  Clock::time_point now = Clock::now();
  for (pid_t i = 0; i < 200; ++i) {
    follower.request_of(7 + i % 2, now += 1ms);
  }
  CHECK(follower.wanted() == ClientFollower::kAnyCpu);
  for (int i = 0; i < 200; ++i) {
    follower.request_of(7, now += 1ms);
  }
  CHECK(follower.wanted() == cpu);
}

TEST_CASE("a client whose CPU is unknown or not ours is not followed") {
  const std::optional<int> cpu =
      GENERATE(std::optional<int>(), std::optional(-3), std::optional(CPU_SETSIZE));
  ClientFollower follower([&](pid_t) { return cpu; });
  follower.request_of(7, Clock::now());
  CHECK(follower.wanted() == ClientFollower::kAnyCpu);
}

TEST_CASE("a request of nobody changes nothing") {
  int looks = 0;
  ClientFollower follower([&](pid_t) {
    ++looks;
    return std::optional(own_cpu());
  });
  follower.request_of(0, Clock::now());
  CHECK(looks == 0);
  CHECK(follower.wanted() == ClientFollower::kAnyCpu);
}

TEST_CASE("a thread settles on the client's CPU and is free again afterwards") {
  const int all = count_of_allowed();
  int settled = 0;
  int freed = 0;
  std::thread([&] {
    // By the kernel's word for this very thread.
    ClientFollower follower;
    Clock::time_point now = Clock::now();
    follower.request_of(::gettid(), now);
    follower.settle();
    settled = count_of_allowed();
    for (pid_t i = 0; i < 200; ++i) {
      follower.request_of(::gettid() + i % 2, now += 1ms);
    }
    follower.settle();
    freed = count_of_allowed();
  }).join();
  CHECK(settled == 1);
  CHECK(freed == all);
}

}  // namespace layerfs
