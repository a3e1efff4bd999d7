#include "tools/run/container_init.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "layers/sys/unique_fd.h"
#include "tools/run/capabilities.h"
#include "tools/run/children.h"
#include "tools/run/exit_code.h"

namespace layerfs::run {
namespace {

// What init itself raises when it is broken must end it.
constexpr std::array kOwnFaults = {SIGFPE, SIGILL, SIGSEGV, SIGBUS, SIGABRT, SIGTRAP, SIGSYS};

UniqueFd all_signals() {
  sigset_t set;
  sigfillset(&set);
  for (const int number : kOwnFaults) {
    sigdelset(&set, number);
  }
  ::pthread_sigmask(SIG_SETMASK, &set, nullptr);
  return UniqueFd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
}

void close_all_but(int first, int second) {
  const auto from = static_cast<unsigned>(std::min(first, second));
  const auto to = static_cast<unsigned>(std::max(first, second));
  if (from > 0) {
    ::syscall(SYS_close_range, 0U, from - 1, 0U);
  }
  if (from + 1 <= to - 1) {
    ::syscall(SYS_close_range, from + 1, to - 1, 0U);
  }
  ::syscall(SYS_close_range, to + 1, ~0U, 0U);
}

// Reaps everything that has ended; true once `main` is among it.
bool reap(pid_t main, int& status) {
  bool over = false;
  for (;;) {
    int one = 0;
    const pid_t pid = ::waitpid(-1, &one, WNOHANG);
    if (pid <= 0) {
      return over;
    }
    if (pid == main) {
      status = one;
      over = true;
    }
  }
}

}  // namespace

int exit_code_of(int wait_status) {
  return WIFSIGNALED(wait_status) ? kSignalBase + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}

void be_init(const Channel& channel, const CommandSetup& command) {
  // In the host's pid namespace orphans come to us only if we ask for them.
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  const UniqueFd signals = all_signals();
  std::array<int, 2> ends{};
  if (!signals || ::pipe2(ends.data(), O_CLOEXEC) < 0) {
    channel.send(Word::Failed, kLauncherFailed, "cannot start the container's init");
    ::_exit(kLauncherFailed);
  }
  UniqueFd started(ends[0]);
  UniqueFd childs_end(ends[1]);
  const pid_t child = ::fork();
  if (child == 0) {
    const CommandFailure failure = become_command(command);
    channel.send(Word::Failed, failure.code, failure.message);
    const char word = 'f';
    ignore(::write(childs_end.get(), &word, 1) == 1 ? Status() : Status(Errno::last()),
           "init sees the end as well");
    ::_exit(failure.code);
  }
  if (child < 0) {
    channel.send(Word::Failed, kLauncherFailed,
                 "cannot start a process in the container: " + describe(Errno::last()));
    ::_exit(kLauncherFailed);
  }
  childs_end.reset();
  char word = 0;
  const bool runs = ::read(started.get(), &word, 1) == 0;
  started.reset();
  // Nothing of what made the container is needed any more, but signalling other users.
  ignore(limit_capabilities(std::uint64_t{1} << CAP_KILL), "it only makes init harder to misuse");
  close_all_but(signals.get(), channel.fd());
  if (runs) {
    channel.send(Word::Started);
  }
  for (int status = 0;;) {
    pollfd item{signals.get(), POLLIN, 0};
    ::poll(&item, 1, -1);
    signalfd_siginfo info{};
    while (::read(signals.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
      if (info.ssi_signo != SIGCHLD) {
        ::kill(child, static_cast<int>(info.ssi_signo));
      }
    }
    if (reap(child, status)) {
      channel.send(Word::Ended, status);
      if (::getpid() != 1) {
        kill_children();
      }
      ::_exit(exit_code_of(status));
    }
  }
}

}  // namespace layerfs::run
