// Which mount a path is on, from the kernel's own table. Nothing here asks the
// filesystem itself, so it works (and never hangs) when the daemon is dead or stuck.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/common/problem.h"

namespace layerfs {

// One line of /proc/self/mountinfo (proc(5)), its paths unescaped.
struct MountEntry {
  std::uint64_t id = 0;
  std::uint64_t parent = 0;
  unsigned major = 0;
  unsigned minor = 0;
  std::string root;  // the part of the filesystem that is mounted; "/" unless bound
  std::string mount_point;
  std::string type;  // with the subtype: "fuse.layerfs"
  std::string source;
  std::string super_options;  // escaped, so that each ',' ends an option

  bool same_filesystem(const MountEntry& other) const {
    return major == other.major && minor == other.minor;
  }
};

// Without the escapes of /proc/self/mountinfo; MountEntry::super_options still has them.
std::string unescape_mountinfo(std::string_view text);

// Unreadable lines are left out: their form belongs to a kernel we do not know.
std::vector<MountEntry> parse_mountinfo(std::string_view text);

// Reads /proc/self/mountinfo; a failure if /proc is not mounted.
Outcome<std::vector<MountEntry>> read_mount_table();

bool is_layerfs(const MountEntry& entry);

// The user who made a FUSE mount ("user_id=" of its options), and the group; 0 if it does
// not say.
uid_t mount_owner(const MountEntry& entry);
gid_t mount_group(const MountEntry& entry);

// A path, taken apart by the kernel.
struct Located {
  std::string path;  // absolute, without symlinks in its directories
  MountEntry mount;
  bool is_mount_point = false;
  // The path inside the filesystem, from the filesystem's own root: "/" or "/a/b".
  std::string inside;
};

// The same in short, and however many mounts there are.
struct MountAt {
  std::uint64_t mount_id = 0;
  bool is_mount_point = false;
};
// Of `path`, followed; nullopt: it cannot be looked at.
std::optional<MountAt> mount_at(const std::string& path);

enum class LastComponent {
  Follow,  // a symlink is followed; the object must exist
  AsIs,    // a symlink is itself, and the object may be missing if its directory exists
};

// A failure names `path` and why it cannot be looked at.
Outcome<Located> locate(const std::string& path, LastComponent last);

}  // namespace layerfs
