// Programs that exec while the mount has written descriptors of theirs: the kernel closes
// those in the middle of execve(2), where other tasks' looks at the process may have to wait.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <csignal>
#include <thread>

#include "tests/testlib/test_mount.h"

using namespace layerfs::testing;

namespace {

constexpr uid_t kOwner = 1001;
constexpr gid_t kGroup = 4444;

// A daemon and a client that wait for each other can be ended only from the daemon's side.
void kill_daemon(const TestMount& mount) {
  run("kill -9 $(layerfs stats --json " + mount.at("") +
      " | grep -o pid...[0-9]* | grep -o [0-9]*)");
}

bool ended_in_time(pid_t child) {
  using namespace std::chrono_literals;
  const auto end = std::chrono::steady_clock::now() + 30s;
  int status = 0;
  while (::waitpid(child, &status, WNOHANG) == 0) {
    if (std::chrono::steady_clock::now() > end) {
      return false;
    }
    std::this_thread::sleep_for(5ms);
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

// Makes `path` a set-gid file of another group again and again, and then a write, a chown
// and a chmod for which it matters what its caller may.
void change_set_ids(const std::string& path, const std::atomic<bool>& stop) {
  while (!stop) {
    ::chmod(path.c_str(), 06777);
    const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
      (void)!::pwrite(fd, "x", 1, 0);
      (void)!::ftruncate(fd, 1);
      (void)!::fchown(fd, kOwner, static_cast<gid_t>(-1));
      ::close(fd);
    }
    ::chmod(path.c_str(), 02767);
    (void)!::truncate(path.c_str(), 0);
  }
}

// Never returns: a program with written close-on-exec descriptors and a stored-to mapping
// becomes another, while a second thread of it changes set-id bits.
[[noreturn]] void exec_with_written(const std::string& dir, uid_t uid) {
  if (uid != 0 &&
      (::setresgid(kGroup + 1, kGroup + 1, kGroup + 1) < 0 || ::setresuid(uid, uid, uid) < 0)) {
    ::_exit(3);
  }
  static std::atomic<bool> never = false;
  std::thread(change_set_ids, dir + "/shared", std::ref(never)).detach();
  for (const char* name : {"/a", "/b", "/c"}) {
    const int fd = ::open((dir + name).c_str(), O_RDWR | O_CLOEXEC);
    if (fd < 0 || ::write(fd, "written", 7) != 7 || ::ftruncate(fd, 4096) < 0) {
      ::_exit(4);
    }
    void* page = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED) {
      ::_exit(5);
    }
    *static_cast<volatile char*>(page) = 'M';
  }
  ::execl("/bin/true", "true", nullptr);
  ::_exit(6);
}

}  // namespace

TEST_CASE(
    "execve with written descriptors and mappings never waits for a daemon that waits for it") {
  const std::string io = GENERATE(from_range(io_modes()));
  const uid_t uid = GENERATE(0U, kOwner);
  CAPTURE(io, uid);
  TestMount mount;
  REQUIRE(::chmod(mount.base().c_str(), 0755) == 0);
  for (const char* name : {"a", "b", "c", "shared"}) {
    write_file(mount.lower() + "/" + name, "lower");
    REQUIRE(::chown((mount.lower() + "/" + name).c_str(), kOwner, kGroup) == 0);
    REQUIRE(::chmod((mount.lower() + "/" + name).c_str(), 02777) == 0);
  }
  mount.mount("--io " + io);

  std::atomic<bool> stop = false;
  std::thread other(change_set_ids, mount.at("shared"), std::ref(stop));
  bool good = true;
  constexpr int kRounds = 150;
  for (int round = 0; good && round < kRounds; ++round) {
    const pid_t child = ::fork();
    if (child == 0) {
      exec_with_written(mount.at(""), uid);
    }
    good = ended_in_time(child);
    if (!good) {
      kill_daemon(mount);
      ::kill(child, SIGKILL);
      ::waitpid(child, nullptr, 0);
    }
  }
  stop = true;
  other.join();
  CHECK(good);
}
