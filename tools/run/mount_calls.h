// The kernel's mount interface by descriptors (Linux 5.12 or later): nothing here looks a
// target up by its path, so nothing can be slipped in between.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

#include "layers/sys/result.h"
#include "layers/sys/unique_fd.h"

namespace layerfs::run {

// A detached copy of the mount at `path` below `dir` and of all mounts below it.
Result<UniqueFd> clone_mounts(int dir, const char* path);

struct FsOption {
  const char* key;
  std::string value;  // "": a flag
};
// A new filesystem, detached. `attributes`: MOUNT_ATTR_...
Result<UniqueFd> new_filesystem(const char* type, std::initializer_list<FsOption> options,
                                std::uint64_t attributes);

// MOUNT_ATTR_... on a detached or attached mount; all below it too if `recursive`.
Status set_attributes(int mount, std::uint64_t set, bool recursive);
Status set_propagation(int mount, std::uint64_t propagation);

// Puts a detached mount over the object that `target` (O_PATH) is.
Status attach(int mount, int target);

}  // namespace layerfs::run
