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

std::vector<pid_t> children_called(const std::string& name) {
  std::vector<pid_t> out;
  for (const pid_t pid : children()) {
    std::ifstream in("/proc/" + std::to_string(pid) + "/comm");
    std::string found;
    if (std::getline(in, found) && found == name) {
      out.push_back(pid);
    }
  }
  return out;
}

pid_t first_child_of(pid_t pid) {
  const std::vector<pid_t> all = children_of(pid);
  return all.empty() ? pid : all.front();
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
