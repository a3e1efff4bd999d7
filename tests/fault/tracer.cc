#include "tests/fault/tracer.h"

#include <fcntl.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <future>
#include <stdexcept>

namespace layerfs::fault {
namespace {

constexpr long kOptions = PTRACE_O_TRACESECCOMP | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK |
                          PTRACE_O_TRACEVFORK | PTRACE_O_EXITKILL;

// Lets the call at which `tid` is stopped not be made, and give -error.
bool fail_call([[maybe_unused]] pid_t tid, [[maybe_unused]] int error) {
#ifdef __x86_64__
  user_regs_struct registers{};
  if (::ptrace(PTRACE_GETREGS, tid, nullptr, &registers) < 0) {
    return false;
  }
  registers.orig_rax = static_cast<unsigned long long>(-1);
  registers.rax = static_cast<unsigned long long>(-error);
  return ::ptrace(PTRACE_SETREGS, tid, nullptr, &registers) == 0;
#else
  return false;
#endif
}

bool can_give(Kind kind, int error) {
  const std::vector<int>& errors = errors_of(kind);
  return std::find(errors.begin(), errors.end(), error) != errors.end();
}

}  // namespace

Tracer::Tracer(const std::vector<std::string>& argv, const std::vector<int>& descriptors,
               const std::string& base)
    : base_(base) {
#ifndef __x86_64__
  throw std::runtime_error("system calls can be failed on x86-64 only");
#endif
  std::promise<void> started;
  thread_ = std::thread([&] {
    pid_ = start(argv, descriptors);
    started.set_value();
    if (pid_ > 0) {
      follow();
    }
    ended_ = true;
  });
  started.get_future().wait();
  if (pid_ <= 0) {
    thread_.join();
    throw std::runtime_error(refusal_);
  }
}

Tracer::~Tracer() {
  kill();
  if (thread_.joinable()) {
    thread_.join();
  }
}

// Only what may be called after a fork of a process with threads happens in the child.
pid_t Tracer::start(const std::vector<std::string>& argv, const std::vector<int>& descriptors) {
  std::vector<char*> arguments;
  for (const std::string& argument : argv) {
    arguments.push_back(const_cast<char*>(argument.c_str()));
  }
  arguments.push_back(nullptr);
  std::vector<sock_filter> filter = filter_program();
  const sock_fprog program{static_cast<unsigned short>(filter.size()), filter.data()};
  const pid_t child = ::fork();
  if (child == 0) {
    for (const int fd : descriptors) {
      ::fcntl(fd, F_SETFD, 0);
    }
    ::raise(SIGSTOP);
    if (::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0) {
      ::_exit(126);
    }
    ::execv(arguments[0], arguments.data());
    ::_exit(127);
  }
  int status = 0;
  if (child < 0 || ::waitpid(child, &status, WUNTRACED) != child || !WIFSTOPPED(status) ||
      ::ptrace(PTRACE_SEIZE, child, nullptr, kOptions) < 0) {
    refusal_ = std::string("a process cannot be traced: ") + std::strerror(errno);
    if (child > 0) {
      ::kill(child, SIGKILL);
      ::waitpid(child, &status, 0);
    }
    return -1;
  }
  ::kill(child, SIGCONT);
  return child;
}

void Tracer::follow() {
  for (;;) {
    int status = 0;
    // This thread's own: what other threads of the test started is theirs to wait for.
    const pid_t tid = ::waitpid(-1, &status, __WALL | __WNOTHREAD);
    if (tid < 0 && errno == EINTR) {
      continue;
    }
    if (tid < 0) {
      return;
    }
    if (WIFSTOPPED(status)) {
      stopped(tid, status);
    } else if (tid == pid_) {
      status_ = status;
    }
  }
}

void Tracer::stopped(pid_t tid, int status) {
  const int event = status >> 16;
  long signal = 0;
  if (event == PTRACE_EVENT_SECCOMP) {
    at_call(tid);
  } else if (event == 0) {
    signal = WSTOPSIG(status);
  }
  ::ptrace(PTRACE_CONT, tid, nullptr, signal);
}

void Tracer::at_call(pid_t tid) {
  const std::lock_guard lock(mutex_);
  if (!armed_) {
    return;
  }
  __ptrace_syscall_info info{};
  if (::ptrace(PTRACE_GET_SYSCALL_INFO, tid, sizeof info, &info) <= 0 ||
      info.op != PTRACE_SYSCALL_INFO_SECCOMP) {
    return;
  }
  Call call;
  call.number = info.seccomp.nr;
  std::copy(std::begin(info.seccomp.args), std::end(info.seccomp.args), call.arguments);
  Kind kind{};
  if (!classify(tid, call, base_, kind) || (plan_.only_changes && !changes(kind))) {
    return;
  }
  shot_.calls.push_back(kind);
  if (shot_.calls.size() != plan_.at || shot_.fired || plan_.action == Plan::Action::Count) {
    return;
  }
  if (plan_.action == Plan::Action::Fail && !can_give(kind, plan_.error)) {
    return;
  }
  shot_.call = describe(tid, call);
  if (plan_.action == Plan::Action::Kill) {
    ::kill(pid_, SIGKILL);
    shot_.fired = true;
    armed_ = false;
  } else {
    shot_.fired = fail_call(tid, plan_.error);
  }
}

void Tracer::arm(const Plan& plan) {
  const std::lock_guard lock(mutex_);
  plan_ = plan;
  shot_ = {};
  armed_ = true;
}

Shot Tracer::disarm() {
  const std::lock_guard lock(mutex_);
  armed_ = false;
  return shot_;
}

void Tracer::kill() const {
  if (!ended_) {
    ::kill(pid_, SIGKILL);
  }
}

std::optional<int> Tracer::wait(std::chrono::milliseconds limit) {
  using namespace std::chrono_literals;
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (!ended_) {
    if (std::chrono::steady_clock::now() > deadline) {
      return std::nullopt;
    }
    std::this_thread::sleep_for(100us);
  }
  return status_.load();
}

}  // namespace layerfs::fault
