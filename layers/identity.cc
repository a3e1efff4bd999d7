#include "layers/identity.h"

#include <sys/stat.h>

#include <span>

namespace layerfs {
namespace {

// A layer may have changed from one user attribute to the other.
std::span<const OverrideForm> forms_of(OverrideForm form) {
  static constexpr OverrideForm kForms[] = {OverrideForm::Security, OverrideForm::FuseOverlayfs,
                                            OverrideForm::Containers, OverrideForm::FuseOverlayfs};
  const std::span all(kForms);
  switch (form) {
    case OverrideForm::Security:
      return all.first(1);
    case OverrideForm::FuseOverlayfs:
      return all.subspan(1, 2);
    case OverrideForm::Containers:
      return all.subspan(2, 2);
    case OverrideForm::None:
      break;
  }
  return {};
}

}  // namespace

Result<Identity> read_identity(sys::At at, const struct statx& st, OverrideForm form) {
  Identity identity{st.stx_uid, st.stx_gid, st.stx_mode, sys::rdev_of(st)};
  // A symlink takes no user attributes.
  if (form == OverrideForm::None || S_ISLNK(st.stx_mode)) {
    return identity;
  }
  for (const OverrideForm candidate : forms_of(form)) {
    LFS_ASSIGN(const auto value, sys::get_xattr(at, override_stat_xattr(candidate)));
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
