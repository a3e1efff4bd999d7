#include "layers/object_compare.h"

#include <sys/stat.h>

#include "layers/identity.h"

namespace layerfs {
namespace {

Status compare_content(ViewObject& now, ViewObject& before, const CompareOptions& options,
                       ChangedParts& parts) {
  if (now.entry().st.stx_size != before.entry().st.stx_size) {
    parts.content = true;
    return {};
  }
  if (now.entry().st.stx_size == 0 || (parts.any() && !options.exact)) {
    return {};
  }
  if (options.one_stack) {
    LFS_ASSIGN(const auto here, now.data_place());
    LFS_ASSIGN(const auto there, before.data_place());
    if (here == there) {
      return {};
    }
  }
  LFS_ASSIGN(const int a, now.data());
  LFS_ASSIGN(const int b, before.data());
  LFS_ASSIGN(const bool same, sys::same_content(a, b));
  parts.content = !same;
  return {};
}

}  // namespace

bool is_same_time(const struct statx_timestamp& a, const struct statx_timestamp& b) {
  return a.tv_sec == b.tv_sec && (a.tv_nsec == b.tv_nsec || a.tv_nsec == 0 || b.tv_nsec == 0);
}

Result<ChangedParts> compare_objects(ViewObject& now, ViewObject& before,
                                     const CompareOptions& options) {
  ChangedParts parts;
  const Identity& here = now.entry().identity;
  const Identity& there = before.entry().identity;
  parts.type = (here.mode & S_IFMT) != (there.mode & S_IFMT);
  if (parts.type) {
    return parts;
  }
  parts.mode = ((here.mode ^ there.mode) & kPermissions) != 0;
  parts.owner = here.uid != there.uid || here.gid != there.gid;
  parts.time = !is_same_time(now.entry().st.stx_mtime, before.entry().st.stx_mtime);
  if (S_ISLNK(here.mode)) {
    LFS_ASSIGN(const std::string target, now.link_target());
    LFS_ASSIGN(const std::string old_target, before.link_target());
    parts.content = target != old_target;
  } else if (S_ISCHR(here.mode) || S_ISBLK(here.mode)) {
    parts.content = here.rdev != there.rdev;
  }
  if (!parts.any() || options.exact) {
    LFS_ASSIGN(const auto* xattrs, now.xattrs());
    LFS_ASSIGN(const auto* old_xattrs, before.xattrs());
    parts.xattrs = *xattrs != *old_xattrs;
  }
  if (S_ISREG(here.mode)) {
    LFS_TRY(compare_content(now, before, options, parts));
  }
  return parts;
}

}  // namespace layerfs
