#include "tools/run/procfs/proc_files.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "layers/sys/syscalls.h"
#include "tools/common/process.h"
#include "tools/run/cannot.h"
#include "tools/run/capabilities.h"
#include "tools/run/mount_calls.h"
#include "tools/run/procfs/fuse_server.h"

namespace layerfs::run {
namespace {

struct Place {
  const char* name;
  const char* target;
};
constexpr std::array kPlaces = {
    Place{"meminfo", "proc/meminfo"}, Place{"cpuinfo", "proc/cpuinfo"},
    Place{"stat", "proc/stat"},       Place{"loadavg", "proc/loadavg"},
    Place{"uptime", "proc/uptime"},   Place{"diskstats", "proc/diskstats"},
    Place{"swaps", "proc/swaps"},     Place{"online", "sys/devices/system/cpu/online"},
};

// It sees only control groups and /proc, and outlives nobody.
[[noreturn]] void be_server(UniqueFd device, const CgroupDirs& dirs, pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::prctl(PR_SET_NAME, "layerfs-proc");
  if (::getppid() != parent) {
    ::_exit(1);
  }
  constexpr int kOwn = 3;
  if (const int number = device.release(); number != kOwn && ::dup2(number, kOwn) < 0) {
    ::_exit(1);
  }
  ::syscall(SYS_close_range, kOwn + 1, ~0U, 0U);
  ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  ignore(limit_capabilities(0), "it only makes the server harder to misuse");
  serve_proc({UniqueFd(kOwn), dirs});
}

}  // namespace

Outcome<void> ProcFiles::start(const std::string& place, const CgroupDirs& dirs) {
  if (::mkdir(place.c_str(), 0700) < 0) {
    return cannot("make '" + place + "'", Errno::last());
  }
  auto device = sys::open_path("/dev/fuse", O_RDWR);
  if (!device) {
    return cannot("open /dev/fuse", device.error());
  }
  const auto mount =
      new_filesystem("fuse",
                     {{"source", "layerfs-proc"},
                      {"fd", std::to_string(device->get())},
                      {"rootmode", "40000"},
                      {"user_id", "0"},
                      {"group_id", "0"},
                      {"allow_other", ""},
                      {"default_permissions", ""}},
                     MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NODEV | MOUNT_ATTR_RDONLY);
  const auto target = sys::open_path(place, O_PATH | O_DIRECTORY);
  if (!mount || !target) {
    return cannot("make the filesystem for /proc", mount ? target.error() : mount.error());
  }
  if (const auto done = attach(mount->get(), target->get()); !done) {
    return cannot("mount the filesystem for /proc", done.error());
  }
  place_ = place;
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ == 0) {
    be_server(std::move(*device), dirs, parent);
  }
  device->reset();
  auto files = pid_ < 0 ? Outcome<void>(cannot("start a process", Errno::last())) : open_files();
  if (!files) {
    stop();
  }
  return files;
}

Outcome<void> ProcFiles::open_files() {
  auto process = open_process(pid_);
  if (!process) {
    return cannot("watch the server of /proc", process.error());
  }
  process_ = std::move(*process);
  for (const Place& one : kPlaces) {
    auto mount = clone_mounts(AT_FDCWD, (place_ + "/" + one.name).c_str());
    if (!mount) {
      return cannot(std::string("take ") + one.name, mount.error());
    }
    files_.push_back({one.target, std::move(*mount)});
  }
  return {};
}

void ProcFiles::uncover(pid_t inside) {
  process_.reset();
  const auto container = open_process(inside);
  const pid_t pid = container ? ::fork() : -1;
  if (pid == 0) {
    if (::setns(container->get(), CLONE_NEWNS) == 0) {
      for (const Place& one : kPlaces) {
        ::umount2((std::string("/") + one.target).c_str(), MNT_DETACH | UMOUNT_NOFOLLOW);
      }
    }
    ::_exit(0);
  }
  while (pid > 0 && ::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void ProcFiles::stop() {
  files_.clear();
  process_.reset();
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
  }
  if (!place_.empty()) {
    ::umount2(place_.c_str(), MNT_DETACH);
    place_.clear();
  }
}

}  // namespace layerfs::run
