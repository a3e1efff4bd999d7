#include "tools/run/exec.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <fstream>
#include <nlohmann/json.hpp>

#include "layers/sys/syscalls.h"
#include "tools/common/process.h"
#include "tools/run/cannot.h"
#include "tools/run/children.h"
#include "tools/run/command_process.h"
#include "tools/run/container_user.h"
#include "tools/run/ending.h"
#include "tools/run/follower.h"
#include "tools/run/pty.h"
#include "tools/run/text_file.h"

namespace layerfs::run {
namespace {

struct Namespace {
  const char* name;
  int flag;
};
constexpr std::array kNamespaces = {
    Namespace{"user", CLONE_NEWUSER},     Namespace{"mnt", CLONE_NEWNS},
    Namespace{"pid", CLONE_NEWPID},       Namespace{"net", CLONE_NEWNET},
    Namespace{"uts", CLONE_NEWUTS},       Namespace{"ipc", CLONE_NEWIPC},
    Namespace{"cgroup", CLONE_NEWCGROUP}, Namespace{"time", CLONE_NEWTIME},
};

// The container's own command: the first process lets nobody look at it.
pid_t process_to_join(const ContainerState& state) {
  if (!state.config.init) {
    return state.pid;
  }
  return first_child_of(state.pid);
}

// Those that are not our own already; the kernel refuses to join the latter again.
Outcome<int> namespaces_to_join(pid_t pid) {
  int flags = 0;
  for (const Namespace& one : kNamespaces) {
    const auto theirs =
        sys::readlink_at({AT_FDCWD, ("/proc/" + std::to_string(pid) + "/ns/" + one.name).c_str()});
    const auto ours =
        sys::readlink_at({AT_FDCWD, (std::string("/proc/self/ns/") + one.name).c_str()});
    if (!theirs || !ours) {
      return failed("cannot see the container's namespaces: " +
                    describe(theirs ? ours.error() : theirs.error()));
    }
    flags |= *theirs != *ours ? one.flag : 0;
  }
  return flags;
}

Outcome<void> join(const ContainerState& state) {
  LFS_ASSIGN(const UniqueFd first, open_container(state));
  const auto process = open_process(process_to_join(state));
  if (!process) {
    return failed("the container '" + state.name + "' has ended");
  }
  LFS_ASSIGN(const int flags, namespaces_to_join(process_to_join(state)));
  for (const std::string& group : state.cgroups) {
    LFS_TRY(write_text(group + "/cgroup.procs", std::to_string(::getpid())));
  }
  // Joining a group may have set them anew.
  cpu_set_t processors;
  if (::sched_getaffinity(process_to_join(state), sizeof processors, &processors) == 0) {
    ::sched_setaffinity(0, sizeof processors, &processors);
  }
  // The container must not look into a process that still has something of the host.
  ::prctl(PR_SET_DUMPABLE, 0);
  if (flags != 0 && ::setns(process->get(), flags) < 0) {
    return cannot("join the container's namespaces");
  }
  if (::setresgid(0, 0, 0) < 0 || ::setresuid(0, 0, 0) < 0 || ::chdir("/") < 0) {
    return cannot("become root of the container");
  }
  return {};
}

struct Joined {
  CommandSetup command;
  UniqueFd terminal;
};

Outcome<Joined> prepare(const ContainerState& state, const ExecRequest& request,
                        const SeccompChoice& seccomp, const Channel& channel) {
  LFS_TRY(join(state));
  RunConfig config = state.config;
  config.terminal = request.terminal;
  config.environment.insert(config.environment.end(), request.environment.begin(),
                            request.environment.end());
  const auto root = sys::open_path("/", O_PATH | O_DIRECTORY);
  if (!root) {
    return failed("cannot open the container's root: " + describe(root.error()));
  }
  LFS_ASSIGN(const AccountFiles files, read_account_files(root->get()));
  Joined out;
  LFS_ASSIGN(out.command.user, find_user(request.user.empty() ? config.user : request.user, files));
  if (request.terminal) {
    LFS_ASSIGN(Pty pty, open_container_pty(out.command.user.uid));
    channel.send(Word::Terminal, 0, {}, pty.master.get());
    out.terminal = std::move(pty.slave);
    out.command.terminal = out.terminal.get();
  }
  const std::string folder = request.workdir.empty() ? config.workdir : request.workdir;
  out.command.argv = request.command;
  out.command.environment = make_environment(config, out.command.user);
  out.command.workdir = folder.empty() ? "/" : folder;
  out.command.capabilities = config.capabilities;
  out.command.no_new_privs = config.no_new_privs;
  out.command.seccomp = seccomp;
  return out;
}

// Waits for the command, and hands on the signals that come over the channel.
int wait_for(pid_t pid, const Channel& channel) {
  const auto process = open_process(pid);
  for (bool listening = true; process;) {
    std::array<pollfd, 2> items{
        {{process->get(), POLLIN, 0}, {listening ? channel.fd() : -1, POLLIN, 0}}};
    if (::poll(items.data(), items.size(), -1) < 0) {
      continue;
    }
    if (items[0].revents != 0) {
      break;
    }
    const auto message = channel.receive();
    listening = message.has_value();
    ::kill(pid, !message                        ? SIGKILL
                : message->word == Word::Signal ? static_cast<int>(message->number)
                                                : 0);
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

// In a process of its own, which joins the container.
Ending run_in_container(const ContainerState& state, const ExecRequest& request,
                        const SeccompChoice& seccomp, const Channel& channel) {
  Ending ending;
  auto joined = prepare(state, request, seccomp, channel);
  auto words = Channel::pair();
  if (!joined || !words) {
    ending.message = joined ? words.error().message : joined.error().message;
    return ending;
  }
  // Only a child is in the joined pid namespace.
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    const CommandFailure failure = become_command(joined->command);
    words->second.send(Word::Failed, failure.code, failure.message);
    ::_exit(failure.code);
  }
  words->second.close();
  joined->terminal.reset();
  const auto failure = pid < 0 ? std::nullopt : words->first.receive();
  if (pid > 0 && !failure) {
    channel.send(Word::Started);
  }
  ending.wait_status = pid < 0 ? -1 : wait_for(pid, channel);
  ending.code = pid < 0 ? kLauncherFailed : exit_code_of(ending.wait_status);
  ending.message = pid < 0   ? "cannot start a process in the container"
                   : failure ? failure->text
                             : std::string();
  return ending;
}

}  // namespace

Outcome<int> exec_in_container(const ContainerState& state, const ExecRequest& request,
                               const Streams& streams) {
  LFS_ASSIGN(const SeccompChoice seccomp,
             choose_seccomp(state.config.seccomp, state.config.capabilities));
  Follower follower(streams, -1);
  return follower.follow(
      [&](Channel channel) {
        ::setsid();
        const Ending ending = run_in_container(state, request, seccomp, channel);
        channel.send(Word::Report, ending.code,
                     report_text(ending, Limits{}, request.command.front()));
        ::_exit(ending.code);
      },
      [] {});
}

}  // namespace layerfs::run
