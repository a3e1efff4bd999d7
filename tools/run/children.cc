#include "tools/run/children.h"

#include <signal.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include <thread>

#include "layers/sys/syscalls.h"

namespace layerfs::run {
namespace {

constexpr auto kStep = std::chrono::milliseconds(2);

// Until a child ends or `limit`. Blocked, the signal of an end that comes before the wait
// stays for it.
class ChildSignal {
 public:
  ChildSignal() {
    sigemptyset(&set_);
    sigaddset(&set_, SIGCHLD);
    ::pthread_sigmask(SIG_BLOCK, &set_, &before_);
  }
  ~ChildSignal() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  ChildSignal(const ChildSignal&) = delete;
  ChildSignal& operator=(const ChildSignal&) = delete;

  void wait(std::chrono::nanoseconds patience) const {
    const auto seconds = std::chrono::floor<std::chrono::seconds>(patience);
    const timespec time{seconds.count(), (patience - seconds).count()};
    ignore(::sigtimedwait(&set_, nullptr, &time) < 0 ? Status(Errno::last()) : Status(),
           "the caller looks again");
  }

 private:
  sigset_t set_{};
  sigset_t before_{};
};

std::vector<pid_t> children_of(pid_t parent) {
  const std::string text = std::to_string(parent);
  std::ifstream in("/proc/" + text + "/task/" + text + "/children");
  std::vector<pid_t> out;
  for (pid_t pid = 0; in >> pid;) {
    out.push_back(pid);
  }
  return out;
}

void signal_children(int number) {
  for (const pid_t pid : children()) {
    ::kill(pid, number);
  }
}

}  // namespace

std::vector<pid_t> children() { return children_of(::getpid()); }

pid_t first_child_of(pid_t pid) {
  const std::vector<pid_t> all = children_of(pid);
  return all.empty() ? pid : all.front();
}

void end_children(std::chrono::milliseconds patience) {
  using Clock = std::chrono::steady_clock;
  const ChildSignal ended;
  auto limit = Clock::now() + patience;
  for (int next = SIGTERM;;) {
    const pid_t pid = ::waitpid(-1, nullptr, WNOHANG);
    if (pid < 0) {
      return;
    }
    if (const auto left = limit - Clock::now(); pid == 0 && left.count() > 0) {
      ended.wait(left);
    } else if (pid == 0) {
      signal_children(next);
      next = SIGKILL;
      limit = Clock::now() + patience;
    }
  }
}

void kill_children() {
  while (::waitpid(-1, nullptr, WNOHANG) >= 0) {
    signal_children(SIGKILL);
    std::this_thread::sleep_for(kStep);
  }
}

}  // namespace layerfs::run
