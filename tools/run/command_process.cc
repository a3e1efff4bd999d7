#include "tools/run/command_process.h"

#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstdlib>

#include "layers/sys/syscalls.h"
#include "tools/run/cannot.h"
#include "tools/run/capabilities.h"
#include "tools/run/exit_code.h"
#include "tools/run/id_map.h"
#include "tools/run/text_file.h"

namespace layerfs::run {
namespace {

constexpr const char* kPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

Outcome<void> take_terminal(int terminal) {
  if (terminal < 0) {
    return {};
  }
  if (::ioctl(terminal, TIOCSCTTY, 0) < 0) {
    return cannot("take the terminal");
  }
  for (int fd = 0; fd <= STDERR_FILENO; ++fd) {
    if (::dup2(terminal, fd) < 0) {
      return cannot("take the terminal");
    }
  }
  return {};
}

Outcome<void> set_limits(const std::vector<RLimit>& limits) {
  for (const RLimit& limit : limits) {
    const rlimit value{limit.soft, limit.hard};
    if (::setrlimit(static_cast<__rlimit_resource>(limit.resource), &value) < 0) {
      return cannot("set a resource limit (--ulimit)");
    }
  }
  return {};
}

// Programs start as many threads as they see processors: not more than their time allows.
// Which ones is chance, so that containers do not crowd on the same.
Outcome<void> see_processors(std::optional<double> wanted) {
  cpu_set_t allowed;
  if (!wanted || ::sched_getaffinity(0, sizeof allowed, &allowed) < 0) {
    return {};  // more processors than the set has room for: all are seen
  }
  const auto all = static_cast<unsigned>(CPU_COUNT(&allowed));
  const auto count = static_cast<unsigned>(std::ceil(std::min(*wanted, 1.0 * all)));
  unsigned skip = 0;
  ignore(::getrandom(&skip, sizeof skip, 0) < 0 ? Status(Errno::last()) : Status(), "0 will do");
  skip %= all;
  cpu_set_t chosen;
  CPU_ZERO(&chosen);
  unsigned index = 0;
  for (unsigned cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &allowed) && (index++ + skip) % all < count) {
      CPU_SET(cpu, &chosen);
    }
  }
  return ::sched_setaffinity(0, sizeof chosen, &chosen) < 0
             ? Outcome<void>(cannot("choose processors (--cpus)"))
             : Outcome<void>();
}

Outcome<void> check_mapped(const char* kind, std::uint32_t id, const std::vector<IdRange>& map) {
  if (is_mapped(map, id)) {
    return {};
  }
  return failed(std::string(kind) + " id " + std::to_string(id) +
                " does not exist in this container, which has " +
                std::to_string(mapped_from_zero(map)) +
                "; ranges in /etc/subuid and /etc/subgid give it more");
}

Outcome<void> set_user(const ContainerUser& user) {
  LFS_ASSIGN(const IdMaps maps, identity_maps());
  LFS_TRY(check_mapped("user", user.uid, maps.uids));
  LFS_TRY(check_mapped("group", user.gid, maps.gids));
  LFS_ASSIGN(const auto setgroups, read_text_if_there("/proc/self/setgroups"));
  if (!setgroups || !setgroups->starts_with("deny")) {
    std::vector<gid_t> groups;
    std::copy_if(user.groups.begin(), user.groups.end(), std::back_inserter(groups),
                 [&](gid_t gid) { return is_mapped(maps.gids, gid); });
    if (::setgroups(groups.size(), groups.data()) < 0) {
      return cannot("set the groups");
    }
  }
  if (::setresgid(user.gid, user.gid, user.gid) < 0 ||
      ::setresuid(user.uid, user.uid, user.uid) < 0) {
    return cannot("become the user");
  }
  return {};
}

Outcome<void> go_to(const std::string& folder) {
  if (::chdir(folder.c_str()) < 0) {
    return cannot("go to the working directory '" + folder + "' of the container");
  }
  // A directory that is not below the root has no absolute name: it came in by a descriptor.
  std::array<char, PATH_MAX> here{};
  if (::getcwd(here.data(), here.size()) == nullptr || here[0] != '/') {
    return failed("the working directory '" + folder + "' is outside of the container");
  }
  return {};
}

Outcome<void> give_up_rights(const CommandSetup& setup) {
  const bool early = !setup.no_new_privs;
  if (early) {
    LFS_TRY(load_seccomp(setup.seccomp));
  }
  LFS_TRY(limit_bounding_set(setup.capabilities));
  LFS_TRY(set_user(setup.user));
  LFS_TRY(go_to(setup.workdir));
  LFS_TRY(set_capabilities(setup.user.uid == 0 ? setup.capabilities : 0));
  if (early) {
    return {};
  }
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
    return cannot("give up new privileges");
  }
  return load_seccomp(setup.seccomp);
}

std::string value_of(const std::vector<std::string>& environment, std::string_view name) {
  for (const std::string& entry : environment) {
    if (entry.starts_with(std::string(name) + "=")) {
      return entry.substr(name.size() + 1);
    }
  }
  return {};
}

std::vector<std::string> candidates(const CommandSetup& setup) {
  const std::string& name = setup.argv.front();
  if (name.find('/') != std::string::npos) {
    return {name};
  }
  std::vector<std::string> out;
  const std::string path = value_of(setup.environment, "PATH");
  for (std::size_t start = 0; start <= path.size();) {
    const std::size_t end = std::min(path.find(':', start), path.size());
    const std::string folder = path.substr(start, end - start);
    out.push_back((folder.empty() ? "." : folder) + "/" + name);
    start = end + 1;
  }
  return out;
}

std::vector<char*> pointers(const std::vector<std::string>& texts) {
  std::vector<char*> out;
  out.reserve(texts.size() + 1);
  for (const std::string& text : texts) {
    out.push_back(const_cast<char*>(text.c_str()));
  }
  out.push_back(nullptr);
  return out;
}

CommandFailure execute(const CommandSetup& setup) {
  const std::vector<char*> argv = pointers(setup.argv);
  const std::vector<char*> environment = pointers(setup.environment);
  int kept = ENOENT;
  for (const std::string& candidate : candidates(setup)) {
    ::execve(candidate.c_str(), argv.data(), environment.data());
    if (!is_absence(Errno(errno))) {
      kept = errno;
      if (errno != EACCES) {
        break;
      }
    }
  }
  const std::string& name = setup.argv.front();
  if (kept == ENOENT) {
    // The kernel says the same of a script or program whose interpreter is missing.
    return {kNotFound, name.find('/') != std::string::npos && ::access(name.c_str(), F_OK) == 0
                           ? "'" + name + "': its interpreter is not in the container"
                           : "'" + name + "' is not in the container"};
  }
  return {kNotExecutable, "cannot execute '" + name + "': " + describe(Errno(kept))};
}

void default_signals() {
  for (int number = 1; number < NSIG; ++number) {
    ::signal(number, SIG_DFL);
  }
  sigset_t none;
  sigemptyset(&none);
  ::pthread_sigmask(SIG_SETMASK, &none, nullptr);
}

}  // namespace

std::vector<std::string> make_environment(const RunConfig& config, const ContainerUser& user) {
  std::vector<std::string> wanted = {std::string("PATH=") + kPath, "HOME=" + user.home,
                                     "HOSTNAME=" + config.hostname, "container=layerfs"};
  if (config.terminal) {
    wanted.emplace_back("TERM=xterm");
  }
  wanted.insert(wanted.end(), config.environment.begin(), config.environment.end());
  std::vector<std::string> out;
  for (std::string& entry : wanted) {
    const std::string name = entry.substr(0, entry.find('=') + 1);
    std::erase_if(out, [&](const std::string& earlier) { return earlier.starts_with(name); });
    out.push_back(std::move(entry));
  }
  return out;
}

CommandFailure become_command(const CommandSetup& setup) {
  default_signals();
  ::setsid();
  ::umask(022);
  const auto ready = [&]() -> Outcome<void> {
    LFS_TRY(take_terminal(setup.terminal));
    LFS_TRY(set_limits(setup.limits));
    LFS_TRY(see_processors(setup.cpus));
    return give_up_rights(setup);
  };
  // Whatever was inherited or forgotten: nothing above 2 reaches the command.
  if (::syscall(SYS_close_range, STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC) < 0) {
    return {kLauncherFailed, cannot("close descriptors").message};
  }
  if (const auto done = ready(); !done) {
    return {kLauncherFailed, done.error().message};
  }
  return execute(setup);
}

}  // namespace layerfs::run
