#include "fs/caller_identity.h"

#include <fcntl.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <functional>
#include <thread>

#include "layers/sys/syscalls.h"
#include "tests/testlib/files.h"
#include "tests/testlib/skip.h"

using namespace layerfs;
using namespace layerfs::testing;

namespace {

// In a thread like those that serve requests.
void in_thread(const std::function<void()>& body) {
  std::thread([&] {
    REQUIRE(sys::unshare_fs_attributes().ok());
    body();
  }).join();
}

struct stat create(const std::string& path) {
  const int fd = ::open(path.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0777);
  REQUIRE(fd >= 0);
  struct stat st = {};
  REQUIRE(::fstat(fd, &st) == 0);
  ::close(fd);
  return st;
}

}  // namespace

TEST_CASE("caller identity: what is created has the caller's owner, group and umask") {
  if (::geteuid() != 0) {
    SKIP_TEST("needs root to take other ids");
  }
  const TempDir dir;
  REQUIRE(::chmod(dir.path().c_str(), 0777) == 0);
  in_thread([&] {
    {
      const CallerIdentity caller(1234, 5678, 027);
      REQUIRE(caller.status().ok());
      const struct stat st = create(dir.at("f"));
      CHECK(st.st_uid == 1234);
      CHECK(st.st_gid == 5678);
      CHECK((st.st_mode & 07777) == 0750);
    }
    const struct stat after = create(dir.at("g"));
    CHECK(after.st_uid == 0);
    CHECK(after.st_gid == 0);
  });
}

TEST_CASE("caller identity: the kernel checks the directory as it would for the caller") {
  if (::geteuid() != 0) {
    SKIP_TEST("needs root to take other ids");
  }
  const TempDir dir;
  REQUIRE(::chmod(dir.path().c_str(), 0755) == 0);
  in_thread([&] {
    {
      const CallerIdentity caller(1234, 5678, 0);
      CHECK(::mkdir(dir.at("d").c_str(), 0777) < 0);
      CHECK(errno == EACCES);
    }
    CHECK(::mkdir(dir.at("d").c_str(), 0777) == 0);
  });
}

TEST_CASE("caller identity: threads do not see each other's umask") {
  const TempDir dir;
  in_thread([&] {
    const CallerIdentity outer(::geteuid(), ::getegid(), 077);
    in_thread([&] {
      const CallerIdentity inner(::geteuid(), ::getegid(), 0);
      CHECK((create(dir.at("inner")).st_mode & 07777) == 0777);
    });
    CHECK((create(dir.at("outer")).st_mode & 07777) == 0700);
  });
}

TEST_CASE("caller identity: an id that the process may not take is EPERM") {
  if (::geteuid() == 0) {
    // As a user, in a process of its own: giving up root is for good.
    const pid_t child = ::fork();
    if (child == 0) {
      const bool user =
          ::setresgid(65534, 65534, 65534) == 0 && ::setresuid(65534, 65534, 65534) == 0;
      const CallerIdentity caller(1234, 5678, 022);
      ::_exit(user && !caller.status() && caller.status().error() == Errno(EPERM) ? 0 : 1);
    }
    int status = -1;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
    return;
  }
  const CallerIdentity caller(::geteuid() + 1, ::getegid(), 022);
  REQUIRE_FALSE(caller.status().ok());
  CHECK(caller.status().error() == Errno(EPERM));
}
