#include "fs/client_follower.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <cstdio>
#include <string_view>

#include "layers/sys/syscalls.h"

namespace layerfs {
namespace {

// Field 39 of /proc/PID/stat (proc(5)); the second one may hold spaces and parentheses.
std::optional<int> last_cpu_of(pid_t thread) {
  std::array<char, 32> path{};
  std::snprintf(path.data(), path.size(), "/proc/%d/stat", static_cast<int>(thread));
  const auto file = sys::open_at({AT_FDCWD, path.data()}, O_RDONLY);
  if (!file) {
    return std::nullopt;
  }
  std::array<char, 1024> buffer{};
  const ssize_t size = ::read(file->get(), buffer.data(), buffer.size());
  if (size <= 0) {
    return std::nullopt;
  }
  std::string_view text(buffer.data(), static_cast<std::size_t>(size));
  const std::size_t name_end = text.rfind(')');
  if (name_end == std::string_view::npos) {
    return std::nullopt;
  }
  text.remove_prefix(name_end + 1);
  constexpr int kSpacesBefore = 39 - 2;
  for (int i = 0; i < kSpacesBefore; ++i) {
    const std::size_t space = text.find(' ');
    if (space == std::string_view::npos) {
      return std::nullopt;
    }
    text.remove_prefix(space + 1);
  }
  int cpu = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), cpu);
  return error == std::errc() ? std::optional(cpu) : std::nullopt;
}

// Where this thread has been put; another session's threads are others.
thread_local int settled = ClientFollower::kAnyCpu;

}  // namespace

ClientFollower::ClientFollower() : ClientFollower(last_cpu_of) {}

ClientFollower::ClientFollower(CpuOf cpu_of) : cpu_of_(std::move(cpu_of)) {
  CPU_ZERO(&allowed_);
  if (::sched_getaffinity(0, sizeof(allowed_), &allowed_) != 0) {
    CPU_ZERO(&allowed_);
  }
}

void ClientFollower::request_of(pid_t client, Clock::time_point now) {
  if (client == 0) {
    return;
  }
  if (last_.exchange(client, std::memory_order_relaxed) != client) {
    changes_.fetch_add(1, std::memory_order_relaxed);
  }
  if (requests_.fetch_add(1, std::memory_order_relaxed) + 1 >= kWindow) {
    requests_.store(0, std::memory_order_relaxed);
    const bool one = changes_.exchange(0, std::memory_order_relaxed) <= kChangesOfOne;
    one_client_.store(one, std::memory_order_relaxed);
    if (!one) {
      wanted_.store(kAnyCpu, std::memory_order_relaxed);
    }
  }
  if (!one_client_.load(std::memory_order_relaxed) ||
      now.time_since_epoch().count() < next_look_.load(std::memory_order_relaxed)) {
    return;
  }
  next_look_.store((now + kLook).time_since_epoch().count(), std::memory_order_relaxed);
  look(client);
}

void ClientFollower::look(pid_t client) {
  const std::optional<int> cpu = cpu_of_(client);
  const bool usable = cpu && *cpu >= 0 && *cpu < CPU_SETSIZE && CPU_ISSET(*cpu, &allowed_);
  wanted_.store(usable ? *cpu : kAnyCpu, std::memory_order_relaxed);
}

void ClientFollower::settle() {
  const int cpu = wanted();
  if (cpu == settled) {
    return;
  }
  settled = cpu;
  cpu_set_t set = allowed_;
  if (cpu != kAnyCpu) {
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
  }
  // It fails where what may be used has changed meanwhile; then the scheduler's place is right.
  ::sched_setaffinity(0, sizeof(set), &set);
}

}  // namespace layerfs
