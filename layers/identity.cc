#include "layers/identity.h"

#include <sys/stat.h>

#include "layers/override_stat.h"

namespace layerfs {

Result<Identity> read_identity(sys::At at, const struct statx& st, bool overrides) {
  Identity identity{st.stx_uid, st.stx_gid, st.stx_mode, sys::rdev_of(st)};
  // A symlink takes no user attributes.
  if (!overrides || S_ISLNK(st.stx_mode)) {
    return identity;
  }
  for (const char* name : {kOverrideStatXattr, kOldOverrideStatXattr}) {
    LFS_ASSIGN(const auto value, sys::get_xattr(at, name));
    if (!value) {
      continue;
    }
    LFS_ASSIGN(const OverrideStat stat, parse_override_stat(*value));
    identity.uid = stat.uid;
    identity.gid = stat.gid;
    identity.mode = stat.has_type() ? stat.mode : (identity.mode & S_IFMT) | stat.mode;
    identity.rdev = stat.has_type() ? stat.rdev : identity.rdev;
    break;
  }
  return identity;
}

}  // namespace layerfs
