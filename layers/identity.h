// Owner, mode and kind of an object as its layer means them: what the inode says, unless
// override_stat says otherwise.
#pragma once

#include <sys/types.h>

#include "layers/override_stat.h"
#include "layers/sys/result.h"
#include "layers/sys/syscalls.h"

namespace layerfs {

// Of a mode: the permissions, with set-id and sticky bits, without the type.
inline constexpr mode_t kPermissions = 07777;

// As stored: ids of the layer, not as a mount with id maps shows them.
struct Identity {
  uid_t uid;
  gid_t gid;
  mode_t mode;  // with the S_IFMT type
  dev_t rdev;
};

// Of the object `at`, whose attributes are `st`. `form`: how its layer keeps owners and
// modes; of what takes no user attributes the inode's own hold, whatever it is, as with
// fuse-overlayfs (override_mode). A value that cannot be parsed is EINVAL: the inode's own owner
// would be the wrong one.
Result<Identity> read_identity(sys::At at, const struct statx& st, OverrideForm form);

}  // namespace layerfs
