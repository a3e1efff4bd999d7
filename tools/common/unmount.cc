#include "tools/common/unmount.h"

#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "layers/sys/result.h"
#include "tools/common/control_client.h"
#include "tools/common/process.h"

namespace layerfs {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kUsersNamed = 3;
constexpr int kBusyTries = 10;
constexpr auto kBusyPause = std::chrono::milliseconds(50);

bool is_below(const std::string& path, const std::string& directory) {
  return path == directory || path.starts_with(directory == "/" ? directory : directory + "/");
}

bool links_below(const fs::path& link, const std::string& directory) {
  std::error_code error;
  const fs::path target = fs::read_symlink(link, error);
  return !error && is_below(target.string(), directory);
}

bool uses(const fs::path& process, const std::string& directory) {
  for (const char* name : {"cwd", "root", "exe"}) {
    if (links_below(process / name, directory)) {
      return true;
    }
  }
  std::error_code error;
  for (fs::directory_iterator it(process / "fd", error), end; !error && it != end;
       it.increment(error)) {
    if (links_below(it->path(), directory)) {
      return true;
    }
  }
  return false;
}

std::string join(const std::vector<std::string>& items) {
  std::string out;
  for (const std::string& item : items) {
    out += (out.empty() ? "" : ", ") + item;
  }
  return out;
}

std::vector<std::string> mounted_on(const MountEntry& mount) {
  std::vector<std::string> out;
  if (auto table = read_mount_table()) {
    for (const MountEntry& entry : *table) {
      if (entry.parent == mount.id) {
        out.push_back(entry.mount_point);
      }
    }
  }
  return out;
}

// What keeps a mount busy, as far as it can be seen; "": nothing.
struct Blockers {
  std::string mounts;
  std::string users;
};

Blockers blockers_of(const MountEntry& mount) {
  std::string mounts = join(mounted_on(mount));
  return mounts.empty() ? Blockers{"", join(users_of(mount.mount_point, kUsersNamed))}
                        : Blockers{std::move(mounts), ""};
}

Problem busy(const MountEntry& mount, const Blockers& blockers) {
  const std::string& point = mount.mount_point;
  if (!blockers.mounts.empty()) {
    return failed("'" + point + "' is busy: other filesystems are mounted in it (" +
                  blockers.mounts + "); unmount those first, or use 'layerfs umount --lazy " +
                  point + "'");
  }
  const std::string& who = blockers.users;
  return failed("'" + point + "' is busy" + (who.empty() ? "" : ": used by " + who) +
                "; end what uses it (fuser -vm " + point + "), or use 'layerfs umount --lazy " +
                point + "'");
}

Outcome<void> unmount_by_helper(const MountEntry& mount, Detach detach) {
  const std::string& point = mount.mount_point;
  if (mount_owner(mount) != ::geteuid()) {
    return failed("'" + point + "': mounted by user " + std::to_string(mount_owner(mount)) +
                  "; unmount as that user or as root");
  }
  const auto helper = find_program("fusermount3");
  if (!helper) {
    return failed("'" + point +
                  "': not permitted to unmount, and fusermount3 is not installed; install the "
                  "package fuse3, or unmount as root");
  }
  LFS_ASSIGN(const Finished finished,
             run_to_end({*helper, detach == Detach::Lazy ? "-uz" : "-u", "--", point}));
  if (finished.status == 0) {
    return {};
  }
  if (finished.error_text.find("busy") != std::string::npos) {
    return busy(mount, blockers_of(mount));
  }
  std::string text = finished.error_text.substr(0, finished.error_text.find('\n'));
  if (text.empty()) {
    text = "fusermount3 " + describe_wait_status(finished.status);
  }
  return failed("'" + point + "': cannot unmount: " + text +
                "; unmount as root or as the user who mounted it");
}

}  // namespace

std::vector<std::string> users_of(const std::string& path, std::size_t most) {
  std::vector<std::string> out;
  std::error_code error;
  for (fs::directory_iterator it("/proc", error), end; !error && it != end && out.size() < most;
       it.increment(error)) {
    const std::string pid = it->path().filename();
    if (!std::all_of(pid.begin(), pid.end(), [](char c) { return c >= '0' && c <= '9'; }) ||
        pid == std::to_string(::getpid()) || !uses(it->path(), path)) {
      continue;
    }
    std::string name;
    std::getline(std::ifstream(it->path() / "comm") >> std::ws, name);
    out.push_back(name + " (" + pid + ")");
  }
  return out;
}

Outcome<void> unmount(const MountEntry& mount, Detach detach) {
  const int flags = UMOUNT_NOFOLLOW | (detach == Detach::Lazy ? MNT_DETACH : 0);
  for (int tries = 0; ::umount2(mount.mount_point.c_str(), flags) != 0; ++tries) {
    const int error = errno;
    if (error == EPERM) {
      return unmount_by_helper(mount, detach);
    }
    if (error == EINVAL) {
      return failed("'" + mount.mount_point +
                    "' cannot be unmounted here: it is not mounted any more, or it is locked by "
                    "the namespace it came from");
    }
    if (error != EBUSY) {
      return failed("'" + mount.mount_point + "': cannot unmount: " + describe(Errno(error)));
    }
    // Who only looked, at /proc/PID/fd for instance, is gone before one can say who it was.
    const Blockers blockers = blockers_of(mount);
    if (tries == kBusyTries || !blockers.mounts.empty() || !blockers.users.empty()) {
      return busy(mount, blockers);
    }
    std::this_thread::sleep_for(kBusyPause);
  }
  return {};
}

Outcome<bool> unmount_if_dead(const std::string& path) {
  const auto here = mount_at(path);
  if (here && !here->is_mount_point) {
    return false;
  }
  const auto located = locate(path, LastComponent::Follow);
  if (!located || !located->is_mount_point || !located->mount.type.starts_with("fuse") ||
      !daemon_is_dead(located->mount)) {
    return false;
  }
  LFS_TRY(unmount(located->mount, Detach::Lazy));
  return true;
}

}  // namespace layerfs
