#include "tests/testlib/namespaces.h"

#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <string>

namespace layerfs::testing {
namespace {

int exit_code(int status) {
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// The code of `child`; whoever else ends here is only collected.
int wait_for(pid_t child) {
  for (;;) {
    int status = 0;
    const pid_t ended = ::wait(&status);
    if (ended == child) {
      return exit_code(status);
    }
    if (ended < 0 && errno != EINTR) {
      return 1;
    }
  }
}

// As udev makes /dev/fuse, in this mount namespace: a machine without udev has it for root only,
// and there the tests of users would fail.
void open_fuse_to_users() {
  struct stat st {};
  const std::string node = "/dev/layerfs-test-fuse-" + std::to_string(::getpid());
  if (::stat("/dev/fuse", &st) == 0 && (st.st_mode & 0006U) == 0006U) {
    return;
  }
  if (::mknod(node.c_str(), S_IFCHR | 0600, st.st_rdev) < 0 || ::chmod(node.c_str(), 0666) < 0 ||
      ::mount(node.c_str(), "/dev/fuse", nullptr, MS_BIND, nullptr) < 0) {
    std::perror("/dev/fuse is for root only");
  }
  ::unlink(node.c_str());
}

}  // namespace

void enter_namespaces() {
  if (::unshare(CLONE_NEWNS | CLONE_NEWPID) < 0 ||
      ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) < 0) {
    std::puts("no namespaces of our own: a killed test leaves its mounts behind");
    return;
  }
  open_fuse_to_users();
  if (const pid_t first = ::fork(); first != 0) {
    ::_exit(wait_for(first));
  }
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::mount("proc", "/proc", "proc", 0, nullptr) < 0) {
    std::perror("/proc");
    ::_exit(1);
  }
  // The first process of a namespace has no default actions for signals.
  if (const pid_t test = ::fork(); test != 0) {
    ::_exit(wait_for(test));
  }
}

}  // namespace layerfs::testing
