#include "tests/fault/mount.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <stdexcept>

extern char** environ;

namespace layerfs::fault {
namespace {

using namespace std::chrono_literals;

struct Pipe {
  int read_end = -1;
  int write_end = -1;
  Pipe() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) < 0) {
      throw std::runtime_error(std::string("pipe: ") + std::strerror(errno));
    }
    read_end = ends[0];
    write_end = ends[1];
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  ~Pipe() {
    close_one(read_end);
    close_one(write_end);
  }
  static void close_one(int& fd) {
    if (fd >= 0) {
      ::close(fd);
      fd = -1;
    }
  }
};

pid_t spawn(const std::vector<std::string>& argv, const std::vector<int>& descriptors) {
  std::vector<char*> arguments;
  for (const std::string& argument : argv) {
    arguments.push_back(const_cast<char*>(argument.c_str()));
  }
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  for (const int fd : descriptors) {
    // Onto itself: that takes its O_CLOEXEC.
    ::posix_spawn_file_actions_adddup2(&actions, fd, fd);
  }
  pid_t child = 0;
  const int error =
      ::posix_spawn(&child, arguments[0], &actions, nullptr, arguments.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (error != 0) {
    throw std::runtime_error(argv[0] + ": " + std::strerror(error));
  }
  return child;
}

std::string line_from(int fd) {
  std::string text;
  char buffer[1024];
  while (text.find('\n') == std::string::npos) {
    const ssize_t n = ::read(fd, buffer, sizeof buffer);
    if (n <= 0) {
      break;
    }
    text.append(buffer, static_cast<std::size_t>(n));
  }
  return text;
}

std::string end_text(int status) {
  return WIFSIGNALED(status) ? std::string("was ended by SIG") + ::sigabbrev_np(WTERMSIG(status))
                             : "exited with " + std::to_string(WEXITSTATUS(status));
}

constexpr auto kLimit = 30s;

}  // namespace

std::string program(const std::string& name) {
  static const auto folder = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  return folder / name;
}

Mount::Mount(const MountConfig& config, const std::string& base, Watch watch)
    : mountpoint_(config.mountpoint) {
  Pipe to_daemon;
  Pipe from_daemon;
  const std::vector<int> inherited = {to_daemon.read_end, from_daemon.write_end};
  const std::vector<std::string> argv = {program("layerfsd"), "--config-fd",
                                         std::to_string(inherited[0]), "--status-fd",
                                         std::to_string(inherited[1])};
  if (watch == Watch::Traced) {
    tracer_ = std::make_unique<Tracer>(argv, inherited, base);
    pid_ = tracer_->pid();
  } else {
    pid_ = spawn(argv, inherited);
  }
  Pipe::close_one(to_daemon.read_end);
  Pipe::close_one(from_daemon.write_end);
  const Watchdog watchdog(pid_, kLimit);
  const std::string text = to_json_text(config) + "\n";
  const bool sent =
      ::write(to_daemon.write_end, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  Pipe::close_one(to_daemon.write_end);
  const std::string answer = line_from(from_daemon.read_end);
  if (!sent || answer.find("\"ok\":true") == std::string::npos) {
    const auto status = wait(kLimit);
    throw std::runtime_error("layerfsd did not mount: " + answer +
                             (status ? " and " + end_text(*status) : ""));
  }
  mounted_ = true;
}

Mount::~Mount() { kill(); }

std::optional<int> Mount::wait(std::chrono::milliseconds limit) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (!status_) {
    int status = 0;
    if (tracer_) {
      status_ = tracer_->wait(limit);
      return status_;
    }
    if (::waitpid(pid_, &status, WNOHANG) == pid_) {
      status_ = status;
    } else if (std::chrono::steady_clock::now() > deadline) {
      return std::nullopt;
    } else {
      std::this_thread::sleep_for(100us);
    }
  }
  return status_;
}

std::optional<int> Mount::ended() { return wait(0ms); }

std::string Mount::unmount() {
  // Whoever looks at /proc/PID/fd of all processes holds what they have open for a moment.
  int left = 1000;
  while (::umount2(mountpoint_.c_str(), 0) < 0 && errno == EBUSY && left-- > 0) {
    std::this_thread::sleep_for(1ms);
  }
  if (left < 0) {
    errno = EBUSY;
    return std::string("umount: ") + std::strerror(errno);
  }
  mounted_ = false;
  const auto status = wait(kLimit);
  if (!status) {
    return "the daemon still runs after the unmount";
  }
  return *status == 0 ? "" : "after the unmount the daemon " + end_text(*status);
}

void Mount::kill() {
  if (!ended()) {
    ::kill(pid_, SIGKILL);
    wait(kLimit);
  }
  if (mounted_) {
    ::umount2(mountpoint_.c_str(), MNT_DETACH);
    mounted_ = false;
  }
}

Watchdog::Watchdog(pid_t pid, std::chrono::seconds limit)
    : thread_([this, pid, limit] {
        const auto deadline = std::chrono::steady_clock::now() + limit;
        while (!over_) {
          if (!barked_ && std::chrono::steady_clock::now() > deadline) {
            barked_ = true;
            ::kill(pid, SIGKILL);
          }
          std::this_thread::sleep_for(2ms);
        }
      }) {}

Watchdog::~Watchdog() {
  over_ = true;
  thread_.join();
}

}  // namespace layerfs::fault
