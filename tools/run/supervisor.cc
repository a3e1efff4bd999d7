#include "tools/run/supervisor.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <vector>

#include "layers/sys/resident.h"
#include "layers/sys/syscalls.h"
#include "tools/common/daemon.h"
#include "tools/common/process.h"
#include "tools/run/cannot.h"
#include "tools/run/cgroup.h"
#include "tools/run/children.h"
#include "tools/run/container.h"
#include "tools/run/ending.h"
#include "tools/run/exit_code.h"
#include "tools/run/guardian.h"
#include "tools/run/net_rate.h"
#include "tools/run/pasta.h"
#include "tools/run/procfs/proc_files.h"
#include "tools/run/state.h"

namespace layerfs::run {
namespace {

constexpr auto kDaemonPatience = std::chrono::seconds(10);

class Supervisor {
 public:
  explicit Supervisor(SupervisorStart& start) : start_(start) {}

  Ending run() {
    Ending ending;
    if (const auto done = prepare(); !done) {
      ending.message = done.error().message;
    } else if (const auto started = finish_container(); !started) {
      ending.message = started.error().message;
    } else {
      watch(ending);
    }
    end_container();
    ending.used = groups_.report();
    if (const auto done = clean_up(); !done && ending.message.empty()) {
      ending.message = done.error().message;
    }
    return ending;
  }

 private:
  const RunConfig& config() const { return start_.config; }

  Outcome<void> prepare() {
    sys::map_code();
    ::setsid();
    // So that the daemon, which puts itself into the background, stays a child.
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);
    if (::geteuid() != 0) {
      LFS_TRY(enter_user_namespace());
    }
    // The mount is the container's alone: no other process of the machine can see it.
    if (::unshare(CLONE_NEWNS) < 0 ||
        ::mount(nullptr, "/", nullptr, MS_SLAVE | MS_REC, nullptr) < 0) {
      return cannot("make a mount namespace");
    }
    LFS_TRY(fill_init_layer(config(), start_.places));
    LFS_TRY(groups_.make(config().name, config().limits_of_groups));
    for (const std::string& why : groups_.left_out()) {
      warn(why);
    }
    return mount_layers();
  }

  static void warn(const std::string& what) {
    const std::string line = "layerfs-run: warning: " + what + "\n";
    ignore(::write(STDERR_FILENO, line.data(), line.size()) < 0 ? Status(Errno::last()) : Status(),
           "nobody reads it");
  }

  Outcome<void> enter_user_namespace() {
    if (::unshare(CLONE_NEWUSER) < 0) {
      return failed("cannot make a user namespace: " + describe(Errno::last()) +
                    "; the machine forbids it to users (sysctl user.max_user_namespaces, "
                    "kernel.unprivileged_userns_clone or kernel.apparmor_restrict_unprivileged_"
                    "userns)");
    }
    start_.channel.send(Word::MapMe);
    const auto answer = start_.channel.receive();
    if (!answer || answer->word != Word::Mapped) {
      return failed("the user namespace got no ids");
    }
    if (::setresgid(0, 0, 0) < 0 || ::setresuid(0, 0, 0) < 0) {
      return cannot("become root of the user namespace");
    }
    return {};
  }

  Outcome<void> mount_layers() {
    MountConfig mount;
    mount.lowers = config().layers;
    mount.upper = config().upper.empty() ? start_.places.scratch : config().upper;
    mount.discarded = config().upper.empty();
    mount.init = start_.places.init;
    mount.mountpoint = start_.places.root;
    mount.mount_flags = {"nodev"};
    LFS_ASSIGN(const IdMaps maps, identity_maps());
    if (mapped_from_zero(maps.uids) == 1) {
      // Owners that this user namespace does not have would make their files unusable.
      mount.squash_uid = mount.squash_gid = 0;
    }
    LFS_TRY(start_daemon(mount, DaemonStart{.program = start_.daemon, .meanwhile = [&](pid_t pid) {
                                              daemon_ = pid;
                                              return begin_container(maps);
                                            }}));
    mounted_ = true;
    return {};
  }

  // Up to where it needs its root.
  Outcome<void> begin_container(const IdMaps& maps) {
    // Not before the daemon is started, which takes longer: of one that finds us gone it
    // unmounts by itself.
    LFS_TRY(guardian_.start([this] { clean_up_after_supervisor(); }));
    if (!groups_.payload().empty()) {
      const auto done = proc_files_.start(start_.places.state + "/proc", groups_.payload_dirs());
      if (!done) {
        warn("/proc shows the machine's use, not the container's: " + done.error().message);
      }
    }
    LFS_ASSIGN(parts_, prepare_host_parts(config(), maps));
    parts_.proc_files = proc_files_.take_files();
    LFS_ASSIGN(auto ends, Channel::pair());
    LFS_TRY(clone_container(std::move(ends.second), ends.first));
    container_channel_ = std::move(ends.first);
    if (config().own.user) {
      LFS_TRY(write_maps(container_, maps, /*privileged=*/true));
    }
    // Together: the first move of a process into another group waits for all CPUs
    // (cgroup_threadgroup_rwsem, kernel/cgroup/cgroup.c), one right after it does not.
    LFS_TRY(groups_.add_payload(container_));
    LFS_TRY(groups_.add_daemon(daemon_));
    // Before it protects itself, for pasta looks at its namespaces as an unprivileged user.
    if (config().network == Network::Pasta) {
      LFS_TRY(start_network());
    }
    return tell_container(Word::Go);
  }

  Outcome<void> finish_container() {
    const auto root = sys::open_path(start_.places.root, O_PATH | O_DIRECTORY);
    if (!root) {
      return failed("cannot open the merged layers: " + describe(root.error()));
    }
    LFS_TRY(make_mount_points(root->get(), config(), parts_));
    parts_ = {};
    return tell_container(Word::Mounted);
  }

  Outcome<void> tell_container(Word word) const {
    return container_channel_.send(word)
               ? Outcome<void>()
               : Outcome<void>(failed("the container's first process ended before it began"));
  }

  // pasta stays as a child of ours, and ends with the container.
  Outcome<void> start_network() {
    const std::vector<pid_t> before = children();
    const auto done = start_pasta(container_, config().ports);
    for (const pid_t pid : children()) {
      if (std::find(before.begin(), before.end(), pid) == before.end()) {
        helpers_.push_back(pid);
      }
    }
    if (!done) {
      return done.error();
    }
    auto limited = config().net_rate ? limit_rate(container_, *config().net_rate) : Outcome<void>();
    if (limited || !config().limits_of_groups.best_effort) {
      return limited;
    }
    warn(limited.error().message);
    return {};
  }

  std::uint64_t clone_flags() const {
    const NamespaceChoice& own = config().own;
    std::uint64_t flags = 0;
    flags |= own.user ? std::uint64_t{CLONE_NEWUSER} : 0;
    flags |= own.pid ? std::uint64_t{CLONE_NEWPID} : 0;
    flags |= own.net ? std::uint64_t{CLONE_NEWNET} : 0;
    flags |= own.uts ? std::uint64_t{CLONE_NEWUTS} : 0;
    flags |= own.ipc ? std::uint64_t{CLONE_NEWIPC} : 0;
    // With an init it makes its own, of which it sets the clock.
    flags |= own.time && !config().init ? std::uint64_t{CLONE_NEWTIME} : 0;
    return flags;
  }

  Outcome<void> clone_container(Channel channel, Channel& supervisors_end) {
    int pidfd = -1;
    clone_args arguments{};
    arguments.flags = clone_flags() | CLONE_PIDFD;
    arguments.pidfd = reinterpret_cast<std::uintptr_t>(&pidfd);
    arguments.exit_signal = SIGCHLD;
    const long pid = ::syscall(SYS_clone3, &arguments, sizeof arguments);
    if (pid < 0) {
      return cannot("make the container's namespaces");
    }
    if (pid == 0) {
      supervisors_end.close();
      start_.channel.close();
      run_container(
          {config(), start_.places.root, std::move(parts_), start_.seccomp, std::move(channel)});
    }
    container_ = static_cast<pid_t>(pid);
    container_fd_ = UniqueFd(pidfd);
    return {};
  }

  // Until the container has ended, or who started it is gone.
  void watch(Ending& ending) {
    bool listening = true;
    while (true) {
      std::array<pollfd, 4> items{{{container_channel_.fd(), POLLIN, 0},
                                   {listening ? start_.channel.fd() : -1, POLLIN, 0},
                                   {container_fd_.get(), POLLIN, 0},
                                   {proc_files_.watch(), POLLIN, 0}}};
      if (::poll(items.data(), items.size(), -1) < 0) {
        continue;
      }
      if (items[1].revents != 0) {
        listening = obey();
        if (!listening) {
          kill_container();
        }
      }
      if (items[3].revents != 0) {
        // An init lets nobody look at it; its first child is in the same namespaces.
        proc_files_.uncover(config().init ? first_child_of(container_) : container_);
      }
      // What it said before its end is heard first.
      if (items[0].revents != 0) {
        hear_container(ending);
      } else if (items[2].revents != 0) {
        take_end(ending);
        return;
      }
    }
  }

  // False once the other side is gone.
  bool obey() {
    const auto message = start_.channel.receive();
    if (!message) {
      return false;
    }
    if (message->word == Word::Signal) {
      ::syscall(SYS_pidfd_send_signal, container_fd_.get(), static_cast<int>(message->number),
                nullptr, 0);
    }
    return true;
  }

  void hear_container(Ending& ending) {
    const auto message = container_channel_.receive();
    if (!message) {
      // The first process has become the command itself.
      if (!refused_ && !config().init) {
        tell_started();
      }
      container_channel_.close();
      return;
    }
    switch (message->word) {
      case Word::Failed:
        ending.code = static_cast<int>(message->number);
        ending.message = message->text;
        refused_ = true;
        break;
      case Word::Ended:
        ending.wait_status = static_cast<int>(message->number);
        break;
      case Word::Terminal:
        start_.channel.send(Word::Terminal, 0, {}, message->fd.get());
        break;
      case Word::Started:
        tell_started();
        break;
      default:
        break;
    }
  }

  void tell_started() {
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    const ContainerState state{config().name,
                               container_,
                               daemon_,
                               start_.places.root,
                               start_time_of(container_).value_or(0),
                               std::chrono::duration_cast<std::chrono::seconds>(now).count(),
                               groups_.payload(),
                               config()};
    ignore(write_state(start_.places.state, state), "the container runs, but cannot be listed");
    start_.channel.send(Word::Started, container_);
    sys::release_code();
  }

  void take_end(Ending& ending) {
    const auto status = wait_for_container();
    if (refused_) {
      return;
    }
    if (ending.wait_status < 0) {
      ending.wait_status = status;
    }
    ending.code = exit_code_of(ending.wait_status);
  }

  int wait_for_container() {
    int status = 0;
    while (::waitpid(container_, &status, 0) < 0 && errno == EINTR) {
    }
    container_ = -1;
    return status;
  }

  void kill_container() {
    ::syscall(SYS_pidfd_send_signal, container_fd_.get(), SIGKILL, nullptr, 0);
  }

  void end_container() {
    if (container_ > 0) {
      kill_container();
      wait_for_container();
    }
  }

  // In the guardian. The container's first process has died with the supervisor; unmounted,
  // the daemon ends too.
  void clean_up_after_supervisor() {
    ::umount2((start_.places.state + "/proc").c_str(), MNT_DETACH);
    ::umount2(start_.places.root.c_str(), MNT_DETACH);
    ignore(groups_.remove(), "nobody is left to be told");
    ignore(remove_places(start_.places), "nobody is left to be told");
  }

  Outcome<void> clean_up() {
    for (const pid_t helper : helpers_) {
      ::kill(helper, SIGTERM);
    }
    proc_files_.stop();
    if (mounted_) {
      ::umount2(start_.places.root.c_str(), MNT_DETACH);
    }
    guardian_.dismiss();
    end_children(kDaemonPatience);
    LFS_TRY(groups_.remove());
    return remove_places(start_.places);
  }

  SupervisorStart& start_;
  Cgroups groups_;
  Guardian guardian_;
  ProcFiles proc_files_;
  std::vector<pid_t> helpers_;
  bool mounted_ = false;
  bool refused_ = false;
  pid_t daemon_ = -1;
  pid_t container_ = -1;
  UniqueFd container_fd_;
  Channel container_channel_;
  HostParts parts_;
};

}  // namespace

void run_supervisor(SupervisorStart start) {
  const Ending ending = Supervisor(start).run();
  start.channel.send(
      Word::Report, ending.code,
      report_text(ending, start.config.limits_of_groups, start.config.command.front()));
  ::_exit(ending.code);
}

}  // namespace layerfs::run
