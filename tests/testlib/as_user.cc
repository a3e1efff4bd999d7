#include "tests/testlib/as_user.h"

#include <grp.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <stdexcept>

#include "tests/testlib/files.h"

namespace layerfs::testing {
namespace {

constexpr int kNoIds = 254;  // no errno of ours

[[noreturn]] void be(const User& user, const std::function<long()>& call) {
  if (::setgroups(user.groups.size(), user.groups.data()) < 0 ||
      ::setresgid(user.gid, user.gid, user.gid) < 0 ||
      ::setresuid(user.uid, user.uid, user.uid) < 0) {
    ::_exit(kNoIds);
  }
  ::_exit(call() < 0 ? errno : 0);
}

}  // namespace

std::string describe(const User& user) {
  std::string text = std::to_string(user.uid) + ":" + std::to_string(user.gid);
  for (const gid_t group : user.groups) {
    text += "+" + std::to_string(group);
  }
  return text;
}

int errno_as(const User& user, const std::function<long()>& call) {
  const pid_t child = ::fork();
  if (child < 0) {
    throw_errno("fork");
  }
  if (child == 0) {
    be(user, call);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) {
      throw_errno("waitpid");
    }
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status) == kNoIds) {
    throw std::runtime_error("cannot act as " + describe(user));
  }
  return WEXITSTATUS(status);
}

}  // namespace layerfs::testing
