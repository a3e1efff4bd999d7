// Runs a program under ptrace with a seccomp filter, counts the calls of all its threads
// that are about the layers below a directory, and at one of them ends it or lets the call
// fail. (strace --inject counts for each thread and call alone, so it cannot do "the n-th".)
#pragma once

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "tests/fault/calls.h"

namespace layerfs::fault {

struct Plan {
  enum class Action {
    Count,  // do nothing
    Kill,   // SIGKILL before the call is made
    Fail,   // the call is not made, and gives `error`
  };
  Action action = Action::Count;
  std::uint64_t at = 0;       // of the calls since arm(), from 1
  bool only_changes = false;  // reading calls are neither counted nor failed
  int error = 0;
  // Only calls that can give `error` (errors_of) are failed.
};

struct Shot {
  std::vector<Kind> calls;  // all since arm(), in order
  bool fired = false;
  std::string call;  // described
};

class Tracer {
 public:
  // Starts `argv`, which inherits `descriptors` beside the standard ones. Throws
  // std::runtime_error where that may not be traced.
  Tracer(const std::vector<std::string>& argv, const std::vector<int>& descriptors,
         const std::string& base);
  // Kills what still runs.
  ~Tracer();
  Tracer(const Tracer&) = delete;
  Tracer& operator=(const Tracer&) = delete;

  pid_t pid() const { return pid_; }
  void arm(const Plan& plan);
  // Ends the plan, and says what came of it.
  Shot disarm();
  void kill() const;
  // Its wait status; nullopt after `limit`.
  std::optional<int> wait(std::chrono::milliseconds limit);

 private:
  void follow();
  pid_t start(const std::vector<std::string>& argv, const std::vector<int>& descriptors);
  void stopped(pid_t tid, int status);
  void at_call(pid_t tid);

  std::string base_;
  std::atomic<pid_t> pid_{0};
  std::string refusal_;
  std::mutex mutex_;
  Plan plan_;
  bool armed_ = false;
  Shot shot_;
  std::atomic<bool> ended_{false};
  std::atomic<int> status_{0};
  std::thread thread_;
};

}  // namespace layerfs::fault
