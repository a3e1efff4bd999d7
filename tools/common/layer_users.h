// Who uses a directory as a layer, as far as this process can see.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "tools/common/problem.h"

namespace layerfs {

// Device and inode number.
using DirectoryId = std::pair<dev_t, std::uint64_t>;

// nullopt: it cannot be opened.
std::optional<DirectoryId> directory_id(const std::string& path);

// Calls `visit` for each directory that a process holds open, until it returns false. The
// daemons of layerfs and fuse-overlayfs hold their layers for as long as they live, wherever
// they are mounted. Processes that this user may not look at are left out.
void visit_open_directories(const std::function<bool(pid_t process, const DirectoryId&)>& visit);

// The layers of kernel overlayfs, which no process holds: those of the mounts in this mount
// namespace whose paths can be opened, with the mount point of each.
Outcome<void> visit_overlay_layers(
    const std::function<void(const std::string& mount_point, const DirectoryId&)>& visit);

// Which mount has the directory for a layer, to be read after "'DIR' is "; nullopt: none that
// can be seen.
Outcome<std::optional<std::string>> layer_use(const DirectoryId& directory);

}  // namespace layerfs
