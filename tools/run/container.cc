#include "tools/run/container.h"

#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <string_view>

#include "layers/sys/resident.h"
#include "layers/sys/syscalls.h"
#include "tools/run/cannot.h"
#include "tools/run/command_process.h"
#include "tools/run/container_init.h"
#include "tools/run/exit_code.h"
#include "tools/run/pty.h"
#include "tools/run/text_file.h"

namespace layerfs::run {
namespace {

constexpr std::string_view kInitName = "layerfs-init";

struct ArgumentMemory {
  char* begin = nullptr;
  std::size_t size = 0;
};
ArgumentMemory program_arguments;

void hide_arguments() {
  if (program_arguments.size > kInitName.size()) {
    std::memset(program_arguments.begin, 0, program_arguments.size);
    std::memcpy(program_arguments.begin, kInitName.data(), kInitName.size());
  }
  ::prctl(PR_SET_NAME, kInitName.data());
}

// Full rights over the container's own namespaces, and nothing that the supervisor's death
// or another process's curiosity could do with them.
Outcome<void> be_root_of_container(const Channel& channel) {
  if (::setresgid(0, 0, 0) < 0 || ::setresuid(0, 0, 0) < 0) {
    return cannot("become root of the container");
  }
  if (::prctl(PR_SET_DUMPABLE, 0) < 0 || ::prctl(PR_SET_PDEATHSIG, SIGKILL) < 0) {
    return cannot("protect the container's first process");
  }
  // The supervisor may have died before it was asked to take us along.
  char unused = 0;
  if (::recv(channel.fd(), &unused, 1, MSG_PEEK | MSG_DONTWAIT) == 0) {
    return failed("the supervisor is gone");
  }
  return {};
}

Outcome<void> loopback_up() {
  const UniqueFd any(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  std::strncpy(request.ifr_name, "lo", IFNAMSIZ - 1);
  if (!any || ::ioctl(any.get(), SIOCGIFFLAGS, &request) < 0) {
    return cannot("find the loopback interface");
  }
  request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
  return ::ioctl(any.get(), SIOCSIFFLAGS, &request) < 0 ? Outcome<void>(cannot("bring loopback up"))
                                                        : Outcome<void>();
}

// The processes that come after this one are in it. What runs since the machine's start
// begins anew, so that the container's uptime is its own.
Outcome<void> make_time_namespace() {
  timespec now{};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  if (::unshare(CLONE_NEWTIME) < 0) {
    return cannot("make a time namespace");
  }
  // Only a process that may be looked at owns its files in /proc; nobody else is here yet.
  ::prctl(PR_SET_DUMPABLE, 1);
  auto done =
      write_text("/proc/self/timens_offsets", "boottime -" + std::to_string(now.tv_sec) + " 0\n");
  ::prctl(PR_SET_DUMPABLE, 0);
  return done;
}

Outcome<void> set_up_namespaces(const RunConfig& config) {
  if (config.own.time && config.init) {
    LFS_TRY(make_time_namespace());
  }
  // Only now: the root of the new cgroup namespace is where this process is.
  if (config.own.cgroup && ::unshare(CLONE_NEWCGROUP) < 0) {
    return cannot("make a cgroup namespace");
  }
  if (config.own.uts && ::sethostname(config.hostname.c_str(), config.hostname.size()) < 0) {
    return cannot("set the host name");
  }
  return config.own.net ? loopback_up() : Outcome<void>();
}

Outcome<ContainerUser> user_of(const RunConfig& config) {
  const auto root = sys::open_path("/", O_PATH | O_DIRECTORY);
  if (!root) {
    return failed("cannot open the new root: " + describe(root.error()));
  }
  LFS_ASSIGN(const AccountFiles files, read_account_files(root->get()));
  return find_user(config.user, files);
}

Outcome<void> wait_for(const Channel& channel, Word word) {
  const auto message = channel.receive();
  return message && message->word == word ? Outcome<void>()
                                          : Outcome<void>(failed("the supervisor is gone"));
}

struct Ready {
  CommandSetup command;
  UniqueFd terminal;
};

Outcome<Ready> make_container(ContainerStart& start) {
  const RunConfig& config = start.config;
  sys::map_code();
  LFS_TRY(wait_for(start.channel, Word::Go));
  LFS_TRY(be_root_of_container(start.channel));
  LFS_TRY(set_up_namespaces(config));
  ::umask(0);
  LFS_TRY(wait_for(start.channel, Word::Mounted));
  if (::unshare(CLONE_NEWNS) < 0) {
    return cannot("make a mount namespace");
  }
  LFS_TRY(enter_root(config, start.root, start.parts));
  Ready out;
  LFS_ASSIGN(out.command.user, user_of(config));
  if (config.terminal) {
    LFS_ASSIGN(Pty pty, open_container_pty(out.command.user.uid));
    LFS_TRY(make_console(pty));
    start.channel.send(Word::Terminal, 0, {}, pty.master.get());
    out.terminal = std::move(pty.slave);
    out.command.terminal = out.terminal.get();
  }
  LFS_TRY(close_places(config));
  out.command.argv = config.command;
  out.command.environment = make_environment(config, out.command.user);
  out.command.workdir = config.workdir.empty() ? "/" : config.workdir;
  out.command.limits = config.limits;
  out.command.cpus = config.limits_of_groups.cpus;
  out.command.capabilities = config.capabilities;
  out.command.no_new_privs = config.no_new_privs;
  out.command.seccomp = start.seccomp;
  return out;
}

}  // namespace

void remember_arguments(int argc, char** argv) {
  const char* const end = argv[argc - 1] + std::strlen(argv[argc - 1]);
  program_arguments = {argv[0], static_cast<std::size_t>(end - argv[0])};
}

void run_container(ContainerStart start) {
  hide_arguments();
  auto ready = make_container(start);
  if (!ready) {
    start.channel.send(Word::Failed, kLauncherFailed, ready.error().message);
    ::_exit(kLauncherFailed);
  }
  if (start.config.init) {
    be_init(start.channel, ready->command);
  }
  const CommandFailure failure = become_command(ready->command);
  start.channel.send(Word::Failed, failure.code, failure.message);
  ::_exit(failure.code);
}

}  // namespace layerfs::run
