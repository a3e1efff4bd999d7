#include "tools/run/children.h"

#include <signal.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include <thread>

namespace layerfs::run {
namespace {

constexpr auto kStep = std::chrono::milliseconds(2);

void signal_children(int number) {
  for (const pid_t pid : children()) {
    ::kill(pid, number);
  }
}

}  // namespace

std::vector<pid_t> children() {
  const std::string self = std::to_string(::getpid());
  std::ifstream in("/proc/" + self + "/task/" + self + "/children");
  std::vector<pid_t> out;
  for (pid_t pid = 0; in >> pid;) {
    out.push_back(pid);
  }
  return out;
}

void end_children(std::chrono::milliseconds patience) {
  using Clock = std::chrono::steady_clock;
  auto limit = Clock::now() + patience;
  for (int next = SIGTERM;;) {
    const pid_t pid = ::waitpid(-1, nullptr, WNOHANG);
    if (pid < 0) {
      return;
    }
    if (pid == 0 && Clock::now() < limit) {
      std::this_thread::sleep_for(kStep);
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
