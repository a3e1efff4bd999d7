#include "tools/run/guardian.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>

namespace layerfs::run {
namespace {

// Nothing of the caller's stays open, so that nobody waits for an end of it.
[[noreturn]] void guard(UniqueFd line, const std::function<void()>& clean_up) {
  ::prctl(PR_SET_NAME, "layerfs-guard");
  ::setsid();
  sigset_t all;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, nullptr);
  if (::dup2(line.get(), STDIN_FILENO) < 0) {
    ::_exit(1);
  }
  ::syscall(SYS_close_range, 1U, ~0U, 0U);
  char word = 0;
  ssize_t count = 0;
  while ((count = ::read(STDIN_FILENO, &word, 1)) < 0 && errno == EINTR) {
  }
  if (count == 0) {
    clean_up();
  }
  ::_exit(0);
}

}  // namespace

Outcome<void> Guardian::start(const std::function<void()>& clean_up) {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) < 0) {
    return failed("cannot make a pair of sockets: " + describe(Errno::last()));
  }
  line_ = UniqueFd(ends[0]);
  UniqueFd theirs(ends[1]);
  pid_ = ::fork();
  if (pid_ == 0) {
    line_.reset();
    guard(std::move(theirs), clean_up);
  }
  return pid_ < 0 ? Outcome<void>(failed("cannot start a process: " + describe(Errno::last())))
                  : Outcome<void>();
}

void Guardian::dismiss() {
  const char word = 'd';
  if (line_ && ::send(line_.get(), &word, 1, MSG_NOSIGNAL) < 0) {
    ::kill(pid_, SIGKILL);
  }
  line_.reset();
}

}  // namespace layerfs::run
