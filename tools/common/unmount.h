// Taking one mount away, as root or as the user who made it.
#pragma once

#include <string>
#include <vector>

#include "tools/common/mount_table.h"
#include "tools/common/problem.h"

namespace layerfs {

enum class Detach {
  No,    // fails if the mount is in use
  Lazy,  // out of sight at once; the filesystem ends when its last user lets go
};

// umount2(2), or fusermount3 where that is not permitted. A busy mount is a failure that
// names who uses it (as far as /proc shows) and the remedies.
Outcome<void> unmount(const MountEntry& mount, Detach detach);

// Takes a FUSE mount at `path` away whose daemon is gone, which answers ENOTCONN to
// everything. Whether there was one.
Outcome<bool> unmount_if_dead(const std::string& path);

// "name (pid)" of processes that have a directory, program or file below `path` in use;
// at most `most`, for a message.
std::vector<std::string> users_of(const std::string& path, std::size_t most);

}  // namespace layerfs
