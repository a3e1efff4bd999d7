#include "tests/unit/tools/fake_mount.h"

#include <signal.h>
#include <sys/mount.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <thread>
#include <utility>

#include "tools/common/mount_table.h"

namespace layerfs::testing {

namespace fs = std::filesystem;

FakeMount::FakeMount() {
  std::string name = fs::temp_directory_path() / "layerfs-tools-test-XXXXXX";
  folder = fs::canonical(::mkdtemp(name.data()));
  mountpoint = folder / "m";
  fs::create_directory(mountpoint);
  fs::create_directory(folder / "l");
  program = FAKE_LAYERFSD;
  config.lowers = {folder / "l"};
  config.mountpoint = mountpoint;
  config.log_file = folder / "pid";
}

FakeMount::~FakeMount() {
  while (is_mounted() && ::umount2(mountpoint.c_str(), MNT_DETACH) == 0) {
  }
  kill_daemon();
  std::error_code ignored;
  fs::remove_all(folder, ignored);
}

bool FakeMount::can_mount() const { return ::geteuid() == 0 && ::access("/dev/fuse", W_OK) == 0; }

Outcome<int> FakeMount::start(const std::string& role, std::function<void()> ready) {
  config.fsname = role;
  return start_daemon(
      config, DaemonStart{.program = program,
                          .ready = std::move(ready),
                          .meanwhile = meanwhile,
                          .note = [this](const std::string& text) { notes += text + '\n'; }});
}

void FakeMount::kill_daemon() const {
  pid_t pid = 0;
  if (std::ifstream(folder / "pid") >> pid && pid > 1) {
    ::kill(pid, SIGKILL);
  }
  while (!daemon_is_gone()) {
    std::this_thread::yield();
  }
}

bool FakeMount::is_mounted() const {
  const auto located = locate(mountpoint, LastComponent::Follow);
  return located && located->is_mount_point;
}

void FakeMount::wait_for_pid_file() const {
  for (int i = 0; i < 500; ++i) {
    if (pid_t pid = 0; std::ifstream(folder / "pid") >> pid) {
      return;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

bool FakeMount::daemon_is_gone() const {
  pid_t pid = 0;
  // A zombie that its adopter has not collected yet is gone as well.
  if (!(std::ifstream(folder / "pid") >> pid)) {
    return true;
  }
  std::string line;
  std::getline(std::ifstream("/proc/" + std::to_string(pid) + "/stat"), line);
  return line.empty() || line.find(") Z ") != std::string::npos;
}

}  // namespace layerfs::testing
