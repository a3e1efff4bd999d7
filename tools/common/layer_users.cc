#include "tools/common/layer_users.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <charconv>
#include <filesystem>
#include <fstream>

#include "layers/sys/syscalls.h"
#include "tools/common/control_client.h"
#include "tools/common/mount_table.h"
#include "tools/common/syntax.h"

namespace layerfs {
namespace {

constexpr auto kPatience = std::chrono::seconds(2);

std::string name_of(pid_t process) {
  std::ifstream in("/proc/" + std::to_string(process) + "/comm");
  std::string name;
  std::getline(in, name);
  return name;
}

// Where the daemon's mount is, if it is in this mount namespace.
std::optional<std::string> mount_of(pid_t daemon) {
  const auto mounts = read_mount_table();
  if (!mounts) {
    return std::nullopt;
  }
  for (const MountEntry& mount : *mounts) {
    if (is_layerfs(mount)) {
      const auto reply = ask_daemon(mount, {.line = R"({"cmd":"pid"})", .patience = kPatience});
      if (reply && reply->server == daemon) {
        return mount.mount_point;
      }
    }
  }
  return std::nullopt;
}

}  // namespace

std::optional<DirectoryId> directory_id(const std::string& path) {
  const auto fd = sys::open_path(path, O_PATH | O_DIRECTORY);
  const auto st = fd ? sys::stat_at({fd->get()}) : Result<struct statx>(fd.error());
  return st ? std::optional(DirectoryId{sys::device_of(*st), st->stx_ino}) : std::nullopt;
}

void visit_open_directories(const std::function<bool(pid_t process, const DirectoryId&)>& visit) {
  std::error_code error;
  for (const auto& process : std::filesystem::directory_iterator("/proc", error)) {
    const std::string name = process.path().filename();
    pid_t pid = 0;
    if (std::from_chars(name.data(), name.data() + name.size(), pid).ec != std::errc()) {
      continue;
    }
    std::error_code gone;
    for (const auto& fd : std::filesystem::directory_iterator(process.path() / "fd", gone)) {
      const auto held = directory_id(fd.path());
      if (held && !visit(pid, *held)) {
        return;
      }
    }
  }
}

Outcome<void> visit_overlay_layers(
    const std::function<void(const std::string& mount_point, const DirectoryId&)>& visit) {
  LFS_ASSIGN(const auto mounts, read_mount_table());
  for (const MountEntry& mount : mounts) {
    if (mount.type != "overlay") {
      continue;
    }
    const std::string& text = mount.super_options;
    for (const std::string key : {"lowerdir=", "lowerdir+=", "upperdir="}) {
      for (std::size_t at = text.find(key); at != std::string::npos; at = text.find(key, at)) {
        at += key.size();
        const auto layers =
            split_layers(unescape_mountinfo(text.substr(at, text.find(',', at) - at)));
        for (const std::string& layer : layers ? *layers : std::vector<std::string>()) {
          if (const auto id = directory_id(layer)) {
            visit(mount.mount_point, *id);
          }
        }
      }
    }
  }
  return {};
}

Outcome<std::optional<std::string>> layer_use(const DirectoryId& directory) {
  std::optional<std::string> use;
  LFS_TRY(visit_overlay_layers([&](const std::string& mount_point, const DirectoryId& id) {
    if (id == directory) {
      use = "a layer of the overlay mount at '" + mount_point + "'";
    }
  }));
  if (use) {
    return use;
  }
  std::optional<pid_t> holder;
  std::string name;
  visit_open_directories([&](pid_t process, const DirectoryId& id) {
    if (id == directory && process != ::getpid()) {
      name = name_of(process);
      if (name == "layerfsd" || name.find("overlayfs") != std::string::npos) {
        holder = process;
      }
    }
    return !holder;
  });
  if (!holder) {
    return use;
  }
  const auto mount_point = name == "layerfsd" ? mount_of(*holder) : std::nullopt;
  use = mount_point ? "a layer of the mount at '" + *mount_point + "'"
                    : "a layer of a mount of process " + std::to_string(*holder) + " (" + name +
                          ") that cannot be seen from here";
  return use;
}

}  // namespace layerfs
