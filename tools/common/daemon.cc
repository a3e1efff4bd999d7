#include "tools/common/daemon.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "layers/sys/bulk.h"
#include "layers/sys/syscalls.h"
#include "layers/sys/unique_fd.h"
#include "tools/common/mount_table.h"
#include "tools/common/process.h"
#include "tools/common/unmount.h"

namespace layerfs {
namespace {

constexpr auto kGrace = std::chrono::seconds(3);
constexpr std::size_t kMostStatusBytes = 64 * 1024;
constexpr int kSignalExitBase = 128;

// SIGINT and its like arrive as data while this lives, so that a mount that is being
// made can be taken back instead of being left half-made.
class HeldSignals {
 public:
  HeldSignals() {
    sigemptyset(&set_);
    for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) {
      sigaddset(&set_, number);
    }
    ::pthread_sigmask(SIG_BLOCK, &set_, &before_);
    fd_ = UniqueFd(::signalfd(-1, &set_, SFD_CLOEXEC | SFD_NONBLOCK));
  }
  ~HeldSignals() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  HeldSignals(const HeldSignals&) = delete;
  HeldSignals& operator=(const HeldSignals&) = delete;
  HeldSignals(HeldSignals&&) = delete;
  HeldSignals& operator=(HeldSignals&&) = delete;

  int fd() const { return fd_.get(); }
  std::optional<int> take() const {
    signalfd_siginfo info{};
    if (::read(fd_.get(), &info, sizeof info) != static_cast<ssize_t>(sizeof info)) {
      return std::nullopt;
    }
    return static_cast<int>(info.ssi_signo);
  }

 private:
  sigset_t set_{};
  sigset_t before_{};
  UniqueFd fd_;
};

// A file rather than a pipe: 500 long layer names do not fit into a pipe, and a daemon
// that dies early cannot block or kill the writer.
Outcome<UniqueFd> config_file(const MountConfig& config) {
  UniqueFd fd(::memfd_create("layerfs-config", MFD_CLOEXEC));
  if (!fd) {
    return failed("cannot make a file in memory: " + describe(Errno::last()));
  }
  const std::string text = to_json_text(config) + "\n";
  if (const auto written = sys::write_fully(fd.get(), text, 0); !written) {
    return failed("cannot hand the configuration to the daemon: " + describe(written.error()));
  }
  return fd;
}

struct Word {
  std::string line;     // what the daemon said; "" if it ended without a word
  int interrupted = 0;  // the signal that ended the wait, or 0
};

Word wait_for_word(const UniqueFd& status, const HeldSignals& signals) {
  Word word;
  std::array<char, 4096> buffer{};
  for (;;) {
    std::array<pollfd, 2> items{{{status.get(), POLLIN, 0}, {signals.fd(), POLLIN, 0}}};
    if (::poll(items.data(), items.size(), -1) < 0) {
      continue;
    }
    if (items[1].revents != 0) {
      if (const auto number = signals.take()) {
        word.interrupted = *number;
        return word;
      }
    }
    if (items[0].revents == 0) {
      continue;
    }
    const ssize_t count = ::read(status.get(), buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count > 0) {
      word.line.append(buffer.data(), static_cast<std::size_t>(count));
    }
    const std::size_t end = word.line.find('\n');
    if (end != std::string::npos || count <= 0 || word.line.size() > kMostStatusBytes) {
      word.line.resize(std::min(end, word.line.size()));
      return word;
    }
  }
}

// Waits a little: the end of the pipe may be seen before the end of the process.
std::string how_it_ended(pid_t pid) {
  if (const auto process = open_process(pid)) {
    wait_for_end(*process, kGrace);
  }
  int status = 0;
  if (::waitpid(pid, &status, WNOHANG) != pid) {
    return "closed its status pipe";
  }
  return describe_wait_status(status);
}

// The device of the mount.
Outcome<dev_t> understand(const Word& word, pid_t pid) {
  if (word.interrupted != 0) {
    return failed(std::string("interrupted by ") + ::sigabbrev_np(word.interrupted) +
                  " before the mount answered; nothing is mounted");
  }
  if (word.line.empty()) {
    return failed("the daemon " + how_it_ended(pid) +
                  " before the mount answered; try again with --foreground --log-level debug");
  }
  const auto document = nlohmann::json::parse(word.line, nullptr, /*allow_exceptions=*/false);
  const bool understood =
      document.is_object() && document.contains("ok") && document["ok"].is_boolean();
  if (understood && document["ok"].get<bool>()) {
    if (const auto device = document.find("device");
        device != document.end() && device->is_number_unsigned()) {
      return device->get<dev_t>();
    }
  } else if (understood) {
    const auto message = document.find("message");
    return failed(message != document.end() && message->is_string()
                      ? message->get<std::string>()
                      : std::string("the daemon failed without saying why"));
  }
  return failed("layerfsd gave no status that this layerfs understands; are both of one version?");
}

// The kernel shows the daemon's mount at the mount point, and it answers.
Outcome<void> check_mounted(const std::string& mountpoint, dev_t device) {
  struct statx st {};
  if (::statx(AT_FDCWD, mountpoint.c_str(), 0, STATX_BASIC_STATS, &st) < 0) {
    return failed("'" + mountpoint + "': mounted, but does not answer: " + describe(Errno::last()));
  }
  if (sys::device_of(st) != device) {
    return failed("'" + mountpoint +
                  "': the daemon is ready, but the kernel shows no layerfs mounted there");
  }
  return {};
}

// What is mounted at the mount point now and was not before.
void remove_new_mount(const std::string& mountpoint, const std::optional<MountAt>& before) {
  const auto now = locate(mountpoint, LastComponent::Follow);
  if (now && now->is_mount_point && is_layerfs(now->mount) &&
      !(before && now->mount.id == before->mount_id)) {
    ignore(unmount(now->mount, Detach::Lazy), "the first failure is the one to report");
  }
}

int follow_in_foreground(pid_t pid, const HeldSignals& signals) {
  const auto process = open_process(pid);
  while (process) {
    std::array<pollfd, 2> items{{{process->get(), POLLIN, 0}, {signals.fd(), POLLIN, 0}}};
    if (::poll(items.data(), items.size(), -1) < 0) {
      continue;
    }
    if (const auto number = signals.take()) {
      ::kill(pid, *number);
    }
    if (items[0].revents != 0) {
      break;
    }
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFSIGNALED(status) ? kSignalExitBase + WTERMSIG(status) : WEXITSTATUS(status);
}

// So that logs and statistics make sense to people in other directories. Only a prefix:
// symlinks and ".." in the path are the kernel's to resolve.
MountConfig with_absolute_paths(MountConfig config) {
  std::error_code error;
  const std::filesystem::path here = std::filesystem::current_path(error);
  const auto extend = [&](std::string& path) {
    if (!error && !path.empty()) {
      path = here / path;
    }
  };
  for (std::string& lower : config.lowers) {
    extend(lower);
  }
  for (std::string* path :
       {&config.upper, &config.work, &config.init, &config.mountpoint, &config.log_file}) {
    extend(*path);
  }
  return config;
}

Outcome<pid_t> launch(const MountConfig& config, const DaemonStart& start, const UniqueFd& status) {
  if (start.serve) {
    return fork_off([&](UniqueFd own) { return start.serve(config, std::move(own)); }, status);
  }
  LFS_ASSIGN(const UniqueFd file, config_file(config));
  // spawn() numbers what it passes on from 3.
  return spawn({start.program, "--config-fd", "3", "--status-fd", "4"}, {file.get(), status.get()});
}

}  // namespace

Outcome<std::string> find_beside_self(const std::string& name) {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  return find_beside(name, self.parent_path().string());
}

Outcome<std::string> find_beside(const std::string& name, const std::string& folder) {
  std::string looked = "$PATH";
  if (!folder.empty()) {
    const std::filesystem::path here = folder;
    const auto installed = here.parent_path() / "libexec" / "layerfs";
    for (const auto& place : {here, installed}) {
      const std::string candidate = place / name;
      if (::access(candidate.c_str(), X_OK) == 0) {
        return candidate;
      }
    }
    looked = here.string() + ", " + installed.string() + " and $PATH";
  }
  if (auto found = find_program(name)) {
    return *std::move(found);
  }
  return failed("cannot find " + name + " in " + looked + "; install it beside layerfs");
}

std::function<void(const std::string&)> notes_to(const Streams& streams, const std::string& name) {
  return
      [&err = streams.err, name](const std::string& text) { err << name << ": " << text << '\n'; };
}

Outcome<int> start_daemon(const MountConfig& config, const DaemonStart& start) {
  LFS_ASSIGN(const bool was_dead, unmount_if_dead(config.mountpoint));
  if (was_dead) {
    start.note("'" + config.mountpoint + "' was a mount whose daemon is gone; it is replaced");
  }
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) < 0) {
    return failed("cannot make a pipe: " + describe(Errno::last()));
  }
  const UniqueFd status(ends[0]);
  UniqueFd daemons_end(ends[1]);
  const auto before = mount_at(config.mountpoint);
  const HeldSignals signals;
  Brood brood;

  LFS_ASSIGN(const pid_t pid, launch(with_absolute_paths(config), start, daemons_end));
  daemons_end.reset();
  const Outcome<void> done = start.meanwhile(pid);
  brood.disown_all_but(pid);
  const Word word = wait_for_word(status, signals);
  const auto device = understand(word, pid);
  // A daemon that reports a failure is ending by itself, which is the cleanest end.
  const auto patience = !device && word.interrupted == 0 ? kGrace : std::chrono::seconds(0);
  const Outcome<void> outcome = !device ? Outcome<void>(device.error())
                                : !done ? done
                                        : check_mounted(config.mountpoint, *device);
  if (!outcome) {
    brood.end_all(patience);
    remove_new_mount(config.mountpoint, before);
    return outcome.error();
  }
  start.ready();
  if (config.foreground) {
    return follow_in_foreground(pid, signals);
  }
  return 0;
}

}  // namespace layerfs
