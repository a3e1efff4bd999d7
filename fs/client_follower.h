// Where the serving threads run: on the CPU of their client, while there is one.
#pragma once

#include <sched.h>
#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <optional>

namespace layerfs {

// A client that waits for its answer leaves its CPU free. Served there, a request wakes no
// other CPU, neither on the way nor back, which is about half of what a round trip costs.
// Clients that ask at the same time are better served wherever there is room.
class ClientFollower {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr int kAnyCpu = -1;

  // Tells on which CPU a thread was last seen; nullopt where that cannot be known.
  using CpuOf = std::function<std::optional<int>(pid_t)>;

  ClientFollower();
  explicit ClientFollower(CpuOf cpu_of);

  // A request of this thread, 0 if the kernel does not say whose it is, has come.
  void request_of(pid_t client, Clock::time_point now);

  // The CPU that serving threads should be on.
  int wanted() const { return wanted_.load(std::memory_order_relaxed); }

  // Brings the calling thread there, if it may run there. To be called between requests.
  void settle();

 private:
  // Of so many requests, that many may come from another client than the one before.
  static constexpr unsigned kWindow = 64;
  static constexpr unsigned kChangesOfOne = 12;
  // How long a client is trusted to stay on its CPU.
  static constexpr std::chrono::milliseconds kLook{4};

  void look(pid_t client);

  const CpuOf cpu_of_;
  cpu_set_t allowed_{};
  // Heuristics: threads may overtake each other in these, and a count may be lost.
  std::atomic<pid_t> last_{0};
  std::atomic<unsigned> requests_{0};
  std::atomic<unsigned> changes_{0};
  std::atomic<bool> one_client_{true};
  std::atomic<Clock::rep> next_look_{0};
  std::atomic<int> wanted_{kAnyCpu};
};

}  // namespace layerfs
