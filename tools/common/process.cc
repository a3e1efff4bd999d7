#include "tools/common/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#endif

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <thread>

extern char** environ;

namespace layerfs {
namespace {

constexpr auto kSignalGrace = std::chrono::seconds(3);
constexpr auto kPollInterval = std::chrono::milliseconds(20);

// posix_spawn's two parameter blocks, freed together.
struct SpawnSetup {
  SpawnSetup() {
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    sigset_t all;
    sigset_t none;
    sigfillset(&all);
    sigemptyset(&none);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  }
  ~SpawnSetup() {
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
  }
  SpawnSetup(const SpawnSetup&) = delete;
  SpawnSetup& operator=(const SpawnSetup&) = delete;
  SpawnSetup(SpawnSetup&&) = delete;
  SpawnSetup& operator=(SpawnSetup&&) = delete;

  Outcome<pid_t> start(const std::vector<std::string>& argv) const {
    std::vector<char*> pointers;
    pointers.reserve(argv.size() + 1);
    for (const std::string& argument : argv) {
      pointers.push_back(const_cast<char*>(argument.c_str()));
    }
    pointers.push_back(nullptr);
    pid_t pid = -1;
    const int error =
        ::posix_spawn(&pid, argv.front().c_str(), &actions, &attributes, pointers.data(), environ);
    if (error != 0) {
      return failed("cannot start '" + argv.front() + "': " + describe(Errno(error)));
    }
    return pid;
  }

  posix_spawn_file_actions_t actions{};
  posix_spawnattr_t attributes{};
};

std::set<pid_t> children() {
  // One thread in the programs; the tests start no other children from theirs.
  std::set<pid_t> out;
  const std::string self = std::to_string(::getpid());
  std::ifstream in("/proc/" + self + "/task/" + self + "/children");
  for (pid_t pid = 0; in >> pid;) {
    out.insert(pid);
  }
  return out;
}

// True when none of `pids` is left.
bool reap(const std::set<pid_t>& pids) {
  bool all_gone = true;
  for (const pid_t pid : pids) {
    const pid_t got = ::waitpid(pid, nullptr, WNOHANG);
    all_gone = all_gone && (got == pid || (got < 0 && errno == ECHILD));
  }
  return all_gone;
}

}  // namespace

std::optional<std::string> find_program(const std::string& name) {
  const char* path = std::getenv("PATH");  // NOLINT(concurrency-mt-unsafe): one thread
  std::istringstream folders(std::string(path == nullptr ? "" : path) +
                             ":/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
  for (std::string folder; std::getline(folders, folder, ':');) {
    // An empty folder means the current one, which is no place to find programs in.
    const std::string candidate = folder + "/" + name;
    if (folder.starts_with('/') && ::access(candidate.c_str(), X_OK) == 0) {
      return candidate;
    }
  }
  return std::nullopt;
}

Outcome<pid_t> spawn(const std::vector<std::string>& argv, const std::vector<int>& inherited) {
  constexpr int kFirst = 3;
  // Out of the way first: a source must not lie on a number that is given out before it.
  std::vector<UniqueFd> moved;
  for (const int fd : inherited) {
    moved.emplace_back(::fcntl(fd, F_DUPFD_CLOEXEC, kFirst + static_cast<int>(inherited.size())));
    if (!moved.back()) {
      return failed("cannot pass a descriptor on: " + describe(Errno::last()));
    }
  }
  SpawnSetup setup;
  int next = kFirst;
  for (const UniqueFd& fd : moved) {
    posix_spawn_file_actions_adddup2(&setup.actions, fd.get(), next++);
  }
  posix_spawn_file_actions_addclosefrom_np(&setup.actions, next);
  return setup.start(argv);
}

Outcome<pid_t> fork_off(const std::function<int(UniqueFd)>& body, const UniqueFd& inherited) {
  constexpr int kOwn = STDERR_FILENO + 1;
  const pid_t pid = ::fork();
  if (pid < 0) {
    return failed("cannot start a process: " + describe(Errno::last()));
  }
  if (pid > 0) {
    return pid;
  }
  if (inherited.get() != kOwn) {
    ::dup3(inherited.get(), kOwn, O_CLOEXEC);
  }
  ::closefrom(kOwn + 1);
  for (int number = 1; number < NSIG; ++number) {
    ::signal(number, SIG_DFL);
  }
  sigset_t none;
  sigemptyset(&none);
  ::pthread_sigmask(SIG_SETMASK, &none, nullptr);
  const int code = body(UniqueFd(kOwn));
#ifdef __SANITIZE_ADDRESS__
  __lsan_do_leak_check();  // which exit(3) does and _exit(2) does not
#endif
  ::_exit(code);
}

Outcome<Finished> run_to_end(const std::vector<std::string>& argv) {
  struct Pipe {
    UniqueFd reader, writer;
  };
  std::array<Pipe, 2> pipes;
  for (Pipe& one : pipes) {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) < 0) {
      return failed("cannot make a pipe: " + describe(Errno::last()));
    }
    one = {UniqueFd(ends[0]), UniqueFd(ends[1])};
  }
  SpawnSetup setup;
  posix_spawn_file_actions_adddup2(&setup.actions, pipes[0].writer.get(), STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&setup.actions, pipes[1].writer.get(), STDERR_FILENO);
  posix_spawn_file_actions_addclosefrom_np(&setup.actions, STDERR_FILENO + 1);
  LFS_ASSIGN(const pid_t pid, setup.start(argv));
  Finished out;
  const std::array<std::string*, 2> texts{&out.output, &out.error_text};
  for (Pipe& one : pipes) {
    one.writer.reset();
  }
  while (pipes[0].reader || pipes[1].reader) {
    std::array<pollfd, 2> items{
        {{pipes[0].reader.get(), POLLIN, 0}, {pipes[1].reader.get(), POLLIN, 0}}};
    if (::poll(items.data(), items.size(), -1) < 0) {
      continue;
    }
    for (std::size_t i = 0; i < items.size(); ++i) {
      std::array<char, 4096> buffer{};
      const ssize_t count =
          items[i].revents == 0 ? 1 : ::read(items[i].fd, buffer.data(), buffer.size());
      if (items[i].revents != 0 && count > 0) {
        texts[i]->append(buffer.data(), static_cast<std::size_t>(count));
      } else if (count == 0 || (count < 0 && errno != EINTR)) {
        pipes[i].reader.reset();
      }
    }
  }
  while (::waitpid(pid, &out.status, 0) < 0 && errno == EINTR) {
  }
  return out;
}

std::string describe_wait_status(int status) {
  if (WIFSIGNALED(status)) {
    const char* name = ::sigdescr_np(WTERMSIG(status));
    return "was ended by signal " + std::to_string(WTERMSIG(status)) + " (" +
           (name == nullptr ? "unknown" : name) + ")";
  }
  return "exited with code " + std::to_string(WEXITSTATUS(status));
}

Result<UniqueFd> open_process(pid_t pid) {
  UniqueFd fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!fd) {
    return Errno::last();
  }
  return fd;
}

bool wait_for_end(const UniqueFd& process, std::optional<std::chrono::milliseconds> patience) {
  using Clock = std::chrono::steady_clock;
  const auto end = patience ? Clock::now() + *patience : Clock::time_point::max();
  for (;;) {
    int wait_ms = -1;
    if (patience) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now());
      wait_ms = static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 60'000));
    }
    pollfd item{process.get(), POLLIN, 0};
    const int ready = ::poll(&item, 1, wait_ms);
    if (ready > 0) {
      return true;
    }
    if (patience && Clock::now() >= end) {
      return false;
    }
  }
}

Brood::Brood() : earlier_(children()) {
  int was = 0;
  ::prctl(PR_GET_CHILD_SUBREAPER, &was);
  was_subreaper_ = was != 0;
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
}

Brood::~Brood() {
  if (!was_subreaper_) {
    ::prctl(PR_SET_CHILD_SUBREAPER, 0);
  }
}

void Brood::disown_all_but(pid_t pid) {
  earlier_ = children();
  earlier_.erase(pid);
}

void Brood::end_all(std::chrono::milliseconds patience) const {
  using Clock = std::chrono::steady_clock;
  // 0: nothing was sent yet; then what was sent last.
  int sent = 0;
  auto limit = Clock::now() + patience;
  for (;;) {
    std::set<pid_t> mine;
    for (const pid_t pid : children()) {
      if (!earlier_.contains(pid)) {
        mine.insert(pid);
      }
    }
    // The end of a child may leave its own children to us: look again.
    if (mine.empty()) {
      return;
    }
    if (reap(mine)) {
      continue;
    }
    if (Clock::now() >= limit) {
      if (sent == SIGKILL) {
        return;  // in an uninterruptible sleep; nothing more can be done
      }
      sent = sent == 0 ? SIGTERM : SIGKILL;
      for (const pid_t pid : mine) {
        ::kill(pid, sent);
      }
      limit = Clock::now() + kSignalGrace;
    }
    std::this_thread::sleep_for(kPollInterval);
  }
}

bool open_standard_descriptors() {
  int fd = 0;
  do {
    fd = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    if (fd < 0) {
      return ::fcntl(STDERR_FILENO, F_GETFD) >= 0;
    }
  } while (fd <= STDERR_FILENO && ::fcntl(fd, F_SETFD, 0) == 0);
  const UniqueFd spare(fd);
  return true;
}

}  // namespace layerfs
