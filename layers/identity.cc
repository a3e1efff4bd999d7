#include "layers/identity.h"

#include <sys/stat.h>

namespace layerfs {
namespace {

// The other of the two user attributes, to or from which the layer may have changed.
OverrideForm other_form(OverrideForm form) {
  switch (form) {
    case OverrideForm::Containers:
      return OverrideForm::FuseOverlayfs;
    case OverrideForm::FuseOverlayfs:
      return OverrideForm::Containers;
    case OverrideForm::Security:
    case OverrideForm::None:
      break;
  }
  return OverrideForm::None;
}

}  // namespace

Result<Identity> read_identity(sys::At at, const struct statx& st, OverrideForm form) {
  Identity identity{st.stx_uid, st.stx_gid, st.stx_mode, sys::rdev_of(st)};
  if (form == OverrideForm::None || !sys::takes_user_xattrs(st.stx_mode)) {
    return identity;
  }
  LFS_ASSIGN(auto value, sys::get_xattr(at, override_stat_xattr(form)));
  if (const OverrideForm other = other_form(form); !value && other != OverrideForm::None) {
    LFS_ASSIGN(value, sys::get_xattr(at, override_stat_xattr(other)));
  }
  if (value) {
    LFS_ASSIGN(const OverrideStat stat, parse_override_stat(*value));
    identity.uid = stat.uid;
    identity.gid = stat.gid;
    identity.mode = stat.has_type() ? stat.mode : (identity.mode & S_IFMT) | stat.mode;
    identity.rdev = stat.has_type() ? stat.rdev : identity.rdev;
  }
  return identity;
}

}  // namespace layerfs
