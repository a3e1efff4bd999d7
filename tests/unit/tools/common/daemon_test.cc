// Starting, watching and ending a daemon, with the fake one of this folder in every role.
#include "tools/common/daemon.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <thread>

#include "tests/testlib/skip.h"
#include "tests/unit/tools/fake_mount.h"
#include "tools/common/control_client.h"
#include "tools/common/mount_table.h"
#include "tools/common/process.h"
#include "tools/common/unmount.h"

using namespace layerfs;
using namespace layerfs::testing;
using Clock = std::chrono::steady_clock;

namespace {

std::string failure_of(FakeMount& fake, const std::string& role) {
  const auto started = fake.start(role);
  REQUIRE(!started);
  CHECK(started.error().code == ExitCode::Failure);
  CHECK(started.error().message.find('\n') == std::string::npos);
  CHECK(!fake.is_mounted());
  return started.error().message;
}

}  // namespace

TEST_CASE("the daemon's own reason is what the user reads") {
  FakeMount fake;
  CHECK(failure_of(fake, "refuse") == "'/l' is not a directory; name one");
}

TEST_CASE("a daemon that ends without a word is reported with how it ended") {
  FakeMount fake;
  CHECK(failure_of(fake, "silent").find("the daemon exited with code 3") == 0);
  CHECK(failure_of(fake, "crash").find("signal 9") != std::string::npos);
}

TEST_CASE("an answer that is no status is a failure") {
  FakeMount fake;
  CHECK(failure_of(fake, "garbage").find("one version") != std::string::npos);
}

TEST_CASE("a missing daemon program is a failure that names it") {
  FakeMount fake;
  fake.program = "/nowhere/layerfsd";
  CHECK(failure_of(fake, "ok").find("/nowhere/layerfsd") != std::string::npos);
}

TEST_CASE("a daemon that claims a mount which is not there is ended") {
  FakeMount fake;
  CHECK(failure_of(fake, "liar").find("the kernel shows no layerfs") != std::string::npos);
  CHECK(fake.daemon_is_gone());
}

TEST_CASE("a signal ends the wait, the daemon in the background, and nothing stays") {
  FakeMount fake;
  // The thread that sends must not be one that the signal can be delivered to.
  sigset_t term;
  sigemptyset(&term);
  sigaddset(&term, SIGTERM);
  ::pthread_sigmask(SIG_BLOCK, &term, nullptr);
  const pid_t self = ::getpid();
  std::thread sender([self, &fake] {
    fake.wait_for_pid_file();
    ::kill(self, SIGTERM);
  });
  const auto begin = Clock::now();
  const std::string message = failure_of(fake, "stuck");
  sender.join();
  ::pthread_sigmask(SIG_UNBLOCK, &term, nullptr);
  CHECK(message.find("interrupted by TERM") == 0);
  CHECK(fake.daemon_is_gone());
  CHECK(Clock::now() - begin < std::chrono::seconds(8));
}

TEST_CASE("a mount whose daemon was killed is replaced, and the user is told") {
  FakeMount fake;
  if (!fake.can_mount()) {
    SKIP_TEST("mounting FUSE is not permitted here");
  }
  REQUIRE(fake.start("ok"));
  CHECK(fake.notes.empty());
  const auto before = locate(fake.mountpoint, LastComponent::Follow);
  fake.kill_daemon();
  REQUIRE(fake.start("ok"));
  CHECK(fake.notes ==
        "'" + fake.mountpoint + "' was a mount whose daemon is gone; it is replaced\n");
  const auto now = locate(fake.mountpoint, LastComponent::Follow);
  REQUIRE(before);
  REQUIRE(now);
  CHECK(now->mount.parent == before->mount.parent);
}

TEST_CASE("a good mount answers when start_daemon returns, and outlives it") {
  FakeMount fake;
  if (!fake.can_mount()) {
    SKIP_TEST("mounting FUSE is not permitted here");
  }
  bool ready = false;
  REQUIRE(fake.start("ok", [&] { ready = true; }));
  CHECK(ready);
  REQUIRE(fake.is_mounted());
  CHECK(std::filesystem::is_empty(fake.mountpoint));
  const auto located = locate(fake.mountpoint, LastComponent::Follow);
  const auto answer = ask_daemon_json(located->mount, {.line = R"({"cmd":"pid"})"});
  REQUIRE(answer);
  const auto process = open_process((*answer)["pid"].get<pid_t>());
  REQUIRE(process);
  CHECK(!wait_for_end(*process, std::chrono::milliseconds(0)));
  CHECK(unmount(located->mount, Detach::No));
  CHECK(wait_for_end(*process, std::chrono::seconds(5)));
}

TEST_CASE("what fails meanwhile fails the start, and neither daemon nor mount stays") {
  FakeMount fake;
  if (!fake.can_mount()) {
    SKIP_TEST("mounting FUSE is not permitted here");
  }
  pid_t daemon = 0;
  fake.meanwhile = [&](pid_t pid) {
    daemon = pid;
    return Outcome<void>(failed("no network"));
  };
  CHECK(failure_of(fake, "ok") == "no network");
  CHECK(daemon > 0);
  CHECK(fake.daemon_is_gone());
}

TEST_CASE("a process started meanwhile is neither waited for nor ended when the mount fails") {
  FakeMount fake;
  pid_t other = 0;
  fake.meanwhile = [&](pid_t) {
    other = ::fork();
    if (other == 0) {
      ::pause();
      ::_exit(0);
    }
    return Outcome<void>();
  };
  const auto begin = Clock::now();
  CHECK(failure_of(fake, "refuse") == "'/l' is not a directory; name one");
  CHECK(Clock::now() - begin < std::chrono::seconds(2));
  REQUIRE(other > 0);
  CHECK(::waitpid(other, nullptr, WNOHANG) == 0);
  ::kill(other, SIGKILL);
  ::waitpid(other, nullptr, 0);
}

TEST_CASE("a mount whose daemon dies at once is a failure and is removed") {
  FakeMount fake;
  if (!fake.can_mount()) {
    SKIP_TEST("mounting FUSE is not permitted here");
  }
  CHECK(failure_of(fake, "dead").find("does not answer") != std::string::npos);
}

TEST_CASE("a configuration larger than a pipe arrives whole") {
  FakeMount fake;
  if (!fake.can_mount()) {
    SKIP_TEST("mounting FUSE is not permitted here");
  }
  fake.config.lowers.assign(500, "/" + std::string(4000, 'l'));
  REQUIRE(fake.start("ok"));
  CHECK(fake.is_mounted());
}

TEST_CASE("in the foreground the daemon's end is waited for, and signals are handed on") {
  FakeMount fake;
  if (!fake.can_mount()) {
    SKIP_TEST("mounting FUSE is not permitted here");
  }
  fake.config.foreground = true;
  SECTION("unmounted by somebody else: the daemon's exit code") {
    std::thread other([&fake] {
      fake.wait_for_pid_file();
      while (!fake.is_mounted()) {
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      REQUIRE(unmount(locate(fake.mountpoint, LastComponent::Follow)->mount, Detach::No));
    });
    const auto code = fake.start("ok");
    other.join();
    REQUIRE(code);
    CHECK(*code == 0);
  }
  SECTION("a signal: the code that a shell would give") {
    const pid_t self = ::getpid();
    const auto code = fake.start("ok", [self] { ::kill(self, SIGTERM); });
    REQUIRE(code);
    CHECK(*code == 128 + SIGTERM);
    CHECK(fake.daemon_is_gone());
  }
}

TEST_CASE("only the two descriptors of the contract reach the daemon") {
  const UniqueFd leak(::dup(STDIN_FILENO));
  const std::filesystem::path out =
      std::filesystem::temp_directory_path() / ("layerfs-fds-" + std::to_string(::getpid()));
  // Pipe and redirection only in a subshell, and `true`, so that it is one: they would be
  // descriptors of the shell that is looked at.
  const auto pid =
      spawn({"/bin/sh", "-c", "(ls /proc/$$/fd > " + out.string() + "); true"}, {0, 1});
  REQUIRE(pid);
  REQUIRE(::waitpid(*pid, nullptr, 0) == *pid);
  std::ifstream in(out);
  const std::string listed{std::istreambuf_iterator<char>(in), {}};
  std::filesystem::remove(out);
  CHECK(listed == "0\n1\n2\n3\n4\n");
}
