// Owner, mode and type of a file kept in an extended attribute, for a store whose
// filesystem cannot hold them (rootless on NFS, or force_mask).
//
// Sources: containers/storage 83cf5746 (2025-08-29) pkg/idtools/idtools.go,
// FormatContainersOverrideXattrDevice and parseOverrideXattr; fuse-overlayfs C
// (60d922c, after 1.16) main.c, override_mode and write_permission_xattr.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>

#include "layers/sys/result.h"

namespace layerfs {

// How a layer keeps them. fuse-overlayfs looks at the attribute of the layer's root, which
// says how all objects of the layer are read.
enum class OverrideForm {
  None,
  // user.containers.override_stat: containers/storage, and fuse-overlayfs' xattr_permissions=2.
  // `security.` attributes are kept under other names (layers/shown_xattrs.h).
  Containers,
  // user.fuseoverlayfs.override_stat: xattr_permissions=2 before fuse-overlayfs 1.14, and since
  // where a layer's root has it.
  FuseOverlayfs,
  // security.fuseoverlayfs.override_stat: xattr_permissions=1.
  Security,
};

// The attribute of a form other than None.
const char* override_stat_xattr(OverrideForm form);

struct OverrideStat {
  uid_t uid = 0;
  gid_t gid = 0;
  mode_t mode = 0;  // 07777, and S_IFMT where the value names a type; else the file's own holds
  dev_t rdev = 0;   // block and char only
  bool has_type() const;
  friend bool operator==(const OverrideStat&, const OverrideStat&) = default;
};

// `uid:gid:mode(octal)[:type]`, type one of dir, file, symlink, pipe, socket,
// block-MAJOR-MINOR, char-MAJOR-MINOR. What follows a known type is ignored, as both
// sources do. EINVAL: malformed, an id of -1, a device number that Linux has not; the
// caller must not take that for "no override", which would show the wrong owner.
Result<OverrideStat> parse_override_stat(std::string_view value);

// Mode bits of an object whose true ones are in the attribute: its owner must be able to use
// it, as containers/storage and fuse-overlayfs have it.
mode_t usable_mode(mode_t mode);

// As containers/storage writes it ("0:0:0755:dir"); without a type, three fields.
std::string format_override_stat(const OverrideStat& stat);

}  // namespace layerfs
