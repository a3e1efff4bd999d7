#include "fs/session.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <vector>

#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include "fs/control_commands.h"
#include "fs/control_socket.h"
#include "fs/fuse_node_bound.h"
#include "fs/fuse_session.h"
#include "fs/layer_setup.h"
#include "fs/passthrough.h"
#include "fs/privileges.h"

namespace layerfs {
namespace {

bool wants_allow_other(const MountConfig& config) {
  if (config.allow_other == MountConfig::AllowOther::Auto) {
    // Root of the machine or of a user namespace mounts directly; fusermount3 would
    // want user_allow_other in its configuration.
    return ::geteuid() == 0;
  }
  return config.allow_other == MountConfig::AllowOther::Yes;
}

bool has_flag(const MountConfig& config, const char* flag) {
  const auto& flags = config.mount_flags;
  return std::find(flags.begin(), flags.end(), flag) != flags.end();
}

// Commas and backslashes are the option list's own.
std::string escape_option(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == ',' || c == '\\') {
      out.push_back('\\');
    }
    out.push_back(c);
  }
  return out;
}

std::string mount_options(const MountConfig& config, bool read_only) {
  std::string options = "fsname=" + escape_option(config.fsname) + ",subtype=layerfs";
  if (config.default_permissions) {
    options += ",default_permissions";
  }
  if (wants_allow_other(config)) {
    options += ",allow_other";
  }
  if (read_only) {
    options += ",ro";
  }
  if (::geteuid() == 0) {
    // libfuse assumes nosuid and nodev; a root filesystem is neither unless asked.
    options += has_flag(config, "nosuid") ? "" : ",suid";
    options += has_flag(config, "nodev") ? "" : ",dev";
  }
  for (const std::string& flag : config.mount_flags) {
    if (flag != "rw" && flag != "ro" && flag != "suid" && flag != "dev") {
      options += "," + flag;
    }
  }
  return options;
}

// Without the last user's files closed the mount only leaves the namespace, and is served
// on until they are.
void unmount(const std::string& mountpoint) {
  if (::umount2(mountpoint.c_str(), MNT_DETACH) == 0 || errno != EPERM) {
    return;
  }
  const pid_t child = ::fork();
  if (child == 0) {
    ::execlp("fusermount3", "fusermount3", "-u", "-z", "-q", "--", mountpoint.c_str(),
             static_cast<char*>(nullptr));
    ::_exit(127);
  }
  if (child > 0) {
    ::waitpid(child, nullptr, 0);
  }
}

// What is said on stderr while this lives: libfuse and fusermount3 give their reasons
// nowhere else.
class HeldStderr {
 public:
  HeldStderr()
      : text_(::memfd_create("layerfs-stderr", MFD_CLOEXEC)),
        before_(::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1)) {
    if (text_ && before_) {
      ::dup2(text_.get(), STDERR_FILENO);
    }
  }
  ~HeldStderr() { release(); }
  HeldStderr(const HeldStderr&) = delete;
  HeldStderr& operator=(const HeldStderr&) = delete;

  // Ends the holding; the lines in one, joined by "; ".
  std::string release() {
    if (!text_ || !before_) {
      return {};
    }
    ::dup2(before_.get(), STDERR_FILENO);
    before_.reset();
    std::array<char, 2048> buffer{};
    const ssize_t count = ::pread(text_.get(), buffer.data(), buffer.size(), 0);
    std::string lines(buffer.data(), count > 0 ? static_cast<std::size_t>(count) : 0);
    while (!lines.empty() && lines.back() == '\n') {
      lines.pop_back();
    }
    for (std::size_t at = 0; (at = lines.find('\n', at)) != std::string::npos;) {
      lines.replace(at, 1, "; ");
    }
    return lines;
  }

 private:
  UniqueFd text_;
  UniqueFd before_;
};

// How far the kernel reads ahead in a file of ours, in KiB. FUSE cannot ask for more than the
// system's 128, and each READ costs a round trip: programs start a quarter faster with 512
// (tests/bench/RESULTS.md). Only root of the machine may; what it has set higher is kept.
void read_further_ahead(dev_t device) {
  constexpr long kKibibytes = 512;
  const std::string path = "/sys/class/bdi/" + std::to_string(major(device)) + ":" +
                           std::to_string(minor(device)) + "/read_ahead_kb";
  const UniqueFd file(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  std::array<char, 32> text{};
  if (file && ::pread(file.get(), text.data(), text.size() - 1, 0) > 0 &&
      std::strtol(text.data(), nullptr, 10) < kKibibytes) {
    const std::string value = std::to_string(kKibibytes);
    if (::pwrite(file.get(), value.data(), value.size(), 0) < 0) {
      spdlog::debug("{}: {}", path, describe(Errno::last()));
    }
  }
}

Failure cannot_mount(const std::string& mountpoint, Errno error, const std::string& said) {
  std::string why = said.empty() ? "the kernel refused (" + describe(error) + ")" : said;
  const char* remedy =
      "fuse3 must be installed for an unprivileged user, who must own the mount point";
  if (::access("/dev/fuse", R_OK | W_OK) != 0) {
    why = "/dev/fuse cannot be opened (" + describe(Errno::last()) + ")";
    remedy = "load the fuse module or give access to the device";
  } else if (::geteuid() == 0) {
    remedy = "CAP_SYS_ADMIN in the mount namespace is needed";
  }
  return Failure{"cannot mount on " + mountpoint + ": " + why + "; " + remedy};
}

}  // namespace

struct Session::State {
  State() = default;
  ~State() {
    if (!in_use) {
      for (FreshWork& work : layers.fresh) {
        work.take_back();
      }
    }
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  MountConfig config;
  OpenedLayers layers;
  std::unique_ptr<FuseContext> context;
  FuseSessionPtr session;
  unsigned threads = 0;

  std::atomic<bool> over = false;
  bool in_use = false;  // whoever asked for the mount knows that it is there

  std::mutex mutex;
  std::vector<std::thread> workers;
  bool is_short_of_threads = false;

  // Negotiates with the kernel; what was wanted explicitly and cannot be had is a failure.
  Result<void, Failure> begin(HeldStderr& held);
  // One more thread that serves. `runner` is told with SIGTERM that the connection has ended.
  bool start_worker(ReaderPool& pool, pthread_t runner);
  void serve(ReaderPool& pool, pthread_t runner);
  // Takes the signals of the process until the connection has ended.
  void wait_for_end(const sigset_t& signals);
  dev_t device() const;
};

Session::Session(std::unique_ptr<State> state) : state_(std::move(state)) {}

Session::~Session() {
  if (state_ && state_->session) {
    fuse_session_unmount(state_->session.get());
  }
}

Result<std::unique_ptr<Session>, Failure> Session::mount(const MountConfig& config) {
  auto state = std::make_unique<State>();
  state->config = config;
  LFS_ASSIGN(state->layers, open_layers(config));
  MountConfig chosen = config;
  if (config.io == MountConfig::Io::Auto && may_pass_through(state->layers.fs->stack())) {
    chosen.io = MountConfig::Io::Passthrough;
  }
  state->context =
      std::make_unique<FuseContext>(*state->layers.fs, fuse_settings(chosen, state->layers));

  const std::string options = mount_options(config, state->layers.fs->is_read_only());
  state->session = make_fuse_session(*state->context, options);
  if (!state->session) {
    return Failure{"mount options \"" + options + "\" are not understood by libfuse " +
                   fuse_pkgversion() + "; remove the offending one"};
  }
  HeldStderr held;
  if (fuse_session_mount(state->session.get(), state->layers.mountpoint.c_str()) != 0) {
    const Errno error = Errno::last();
    state->session.reset();
    return cannot_mount(state->layers.mountpoint, error, held.release());
  }
  // From here on the session's end unmounts.
  std::unique_ptr<Session> mounted(new Session(std::move(state)));
  LFS_TRY(mounted->state_->begin(held));
  return mounted;
}

Result<void, Failure> Session::State::begin(HeldStderr& held) {
  if (!serve_init(*context)) {
    const std::string said = held.release();
    return Failure{"cannot mount on " + layers.mountpoint + ": " +
                   (said.empty() ? "the kernel ended the connection" : said) + "; libfuse " +
                   fuse_pkgversion() + " must know the kernel's FUSE protocol"};
  }
  if (const std::string said = held.release(); !said.empty()) {
    spdlog::warn("{}", said);
  }
  if (config.io == MountConfig::Io::Passthrough) {
    LFS_TRY(check_passthrough(*context));
  }
  const int wanted = config.threads;
  const unsigned machine = std::max(2U, std::thread::hardware_concurrency());
  threads = wanted > 0 ? static_cast<unsigned>(wanted) : std::min(machine + 2, 16U);
  return {};
}

dev_t Session::State::device() const {
  // From the superblock: the mount itself need not answer for it.
  struct statx st {};
  if (::statx(AT_FDCWD, layers.mountpoint.c_str(), AT_STATX_DONT_SYNC, 0, &st) != 0) {
    return 0;
  }
  return sys::device_of(st);
}

bool Session::State::start_worker(ReaderPool& pool, pthread_t runner) {
  const std::lock_guard lock(mutex);
  try {
    workers.emplace_back([this, &pool, runner] { serve(pool, runner); });
  } catch (const std::system_error& error) {
    // It is asked for a thousand times a second while nobody waits for requests.
    if (!is_short_of_threads) {
      spdlog::warn("cannot start a thread: {}", error.code().message());
    }
    is_short_of_threads = true;
    return false;
  }
  is_short_of_threads = false;
  return true;
}

void Session::State::serve(ReaderPool& pool, pthread_t runner) {
  serve_requests(*context, pool);
  if (!over.exchange(true)) {
    pthread_kill(runner, SIGTERM);
  }
}

void Session::State::wait_for_end(const sigset_t& signals) {
  bool asked = false;
  for (;;) {
    int signal = 0;
    if (sigwait(&signals, &signal) != 0) {
      continue;
    }
    if (over.load()) {
      return;
    }
    if (signal == SIGUSR1) {
      // fuse-overlayfs' question; without an answer it would end the mount.
      spdlog::info("nodes: {}", layers.fs->node_usage().nodes);
      continue;
    }
    if (asked) {
      ::_exit(128 + signal);  // asked twice: give up on whoever still uses the mount
    }
    asked = true;
    unmount(layers.mountpoint);
  }
}

Result<void, Failure> Session::run(const std::function<bool(dev_t)>& on_ready) {
  State& state = *state_;
  if (const auto own = sys::unshare_fs_attributes(); !own) {
    return Failure{"cannot give threads a umask of their own: " + describe(own.error()) +
                   "; allow unshare(CLONE_FS)"};
  }
  // Before there are threads, each of which has its own.
  if (const auto dropped = drop_privileges(); !dropped) {
    spdlog::warn("privileges that are not needed cannot be given up: {}",
                 describe(dropped.error()));
  }
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGUSR1}) {
    sigaddset(&signals, signal);
  }
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  ::signal(SIGPIPE, SIG_IGN);

  std::optional<NodeBound> bound(std::in_place, *state.layers.fs,
                                 fuse_session_fd(state.session.get()));
  const pthread_t runner = ::pthread_self();
  // Each client that waits for an answer leaves its processor to a thread of ours.
  const unsigned busy = std::max(1U, std::thread::hardware_concurrency() / 2);
  const Failure no_thread{"a thread is needed; allow more processes (ulimit -u, pids.max)"};
  std::optional<ReaderPool> pool;
  try {
    pool.emplace(ReaderPool::Limits{state.threads, busy}, 1,
                 [&](ReaderPool& own) { return state.start_worker(own, runner); });
  } catch (const std::system_error&) {
    return no_thread;
  }
  if (!state.start_worker(*pool, runner)) {
    return no_thread;
  }
  const dev_t device = state.device();
  const ControlState control{state.config, state.layers, *state.context, state.threads,
                             std::chrono::steady_clock::now()};
  auto socket = ControlSocket::open(
      device,
      {[&control](const std::string& request) { return run_control_command(control, request); },
       is_freeze, [&control](ControlPeer& peer) { talk_freeze(control, peer); },
       freeze_is_taken()});
  if (!socket) {
    spdlog::warn(
        "no control socket ({}): `layerfs stats`, `which` and `umount` cannot reach this "
        "mount",
        describe(socket.error()));
  }
  const FuseContext& context = *state.context;
  spdlog::info("mounted {}: io={} libfuse={} protocol={}.{} whiteouts={} threads={}",
               state.layers.mountpoint,
               context.settings.io == IoMode::Passthrough ? "passthrough" : "cached",
               fuse_pkgversion(), context.proto_major, context.proto_minor,
               state.layers.form == WhiteoutForm::Overlay ? "overlay" : "oci", state.threads);
  state.in_use = on_ready(device);
  if (!state.in_use) {
    unmount(state.layers.mountpoint);
  }
  // Nobody waits for it.
  read_further_ahead(device);
  const Privileges held = privileges();
  spdlog::info("privileges: {}; {}", fmt::join(held.capabilities, ","),
               held.no_new_privileges ? "no_new_privs" : "without no_new_privs, for fusermount3");

  // Nobody may be kept waiting for a thread that cannot be had any more.
  pool->expect_more();
  state.wait_for_end(signals);
  pool->end();
  for (std::thread& worker : state.workers) {
    worker.join();
  }
  bound.reset();
  if (socket) {
    // The device number is free for the next mount, whose daemon needs the name.
    socket->reset();
  }
  const auto finished = state.layers.fs->finish();
  if (!finished) {
    return Failure{"work directory " + state.layers.work + ": " + describe(finished.error()) +
                   " while finishing; what was written is in the upper"};
  }
  return {};
}

}  // namespace layerfs
