#include "tools/run/doctor.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <functional>

#include "layers/sys/syscalls.h"
#include "tools/common/process.h"
#include "tools/run/cgroup.h"
#include "tools/run/id_map.h"
#include "tools/run/sealed_self.h"

namespace layerfs::run {
namespace {

// In a process of its own; 0, or the errno of what it did.
int errno_in_child(const std::function<int()>& call) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::_exit(call() < 0 ? errno & 0xff : 0);
  }
  int status = 0;
  while (pid > 0 && ::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return pid > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : EAGAIN;
}

Finding kernel() {
  struct utsname names {};
  ::uname(&names);
  int major = 0;
  int minor = 0;
  std::sscanf(names.release, "%d.%d", &major, &minor);
  const bool holds = major > 5 || (major == 5 && minor >= 12);
  return {"kernel", holds, true,
          std::string(names.release) + (holds ? "" : "; 5.12 or later is needed")};
}

Finding fuse() {
  const auto device = sys::open_path("/dev/fuse", O_RDWR);
  return {"/dev/fuse", device.ok(), true,
          device ? "can be opened"
                 : describe(device.error()) + "; as root: modprobe fuse && chmod 666 /dev/fuse"};
}

Finding daemon() {
  const auto found = find_own_program("layerfsd");
  return {"layerfsd", found.ok(), true, found ? *found : found.error().message};
}

Finding user_namespaces() {
  const int error = errno_in_child([] { return ::unshare(CLONE_NEWUSER); });
  return {"user namespaces", error == 0, true,
          error == 0 ? "can be made"
                     : describe(Errno(error)) +
                           "; as root: sysctl -w user.max_user_namespaces=65536 "
                           "kernel.apparmor_restrict_unprivileged_userns=0"};
}

Finding ids() {
  if (::geteuid() == 0) {
    return {"user ids", true, false, "all, as root"};
  }
  const auto maps = maps_of_caller();
  if (!maps) {
    return {"user ids", false, false, maps.error().message};
  }
  const std::uint64_t count = mapped_from_zero(maps->uids);
  return {"user ids", count > 1, false,
          std::to_string(count) +
              (count > 1 ? " in a container"
                         : "; more: apt-get install uidmap && usermod --add-subuids 100000-165535 "
                           "--add-subgids 100000-165535 USER")};
}

struct Trial {
  const char* option;
  Limits limits;
};

std::vector<Finding> limits() {
  std::array<Trial, 4> trials;
  trials[0].option = "--memory";
  trials[0].limits.memory = 64ULL << 20;
  trials[1].option = "--cpus";
  trials[1].limits.cpus = 1;
  trials[2].option = "--pids";
  trials[2].limits.pids = 100;
  trials[3].option = "--cpuset-cpus";
  trials[3].limits.cpuset = "0";
  std::vector<Finding> out;
  for (const Trial& trial : trials) {
    Cgroups groups;
    const auto done = groups.make("doctor-" + std::to_string(::getpid()), trial.limits);
    out.push_back({trial.option, done.ok(), false, done ? "can be set" : done.error().message});
  }
  return out;
}

Finding pasta() {
  const auto program = find_program("pasta");
  const bool tun = ::access("/dev/net/tun", R_OK | W_OK) == 0;
  return {"--net pasta", program && tun, false,
          !program ? "no program pasta; as root: apt-get install passt"
          : !tun ? "/dev/net/tun cannot be opened; as root: modprobe tun && chmod 666 /dev/net/tun"
                 : *program};
}

}  // namespace

std::vector<Finding> examine_machine() {
  std::vector<Finding> out = {kernel(), fuse(), daemon(), user_namespaces(), ids()};
  for (Finding& finding : limits()) {
    out.push_back(std::move(finding));
  }
  out.push_back(pasta());
  return out;
}

}  // namespace layerfs::run
