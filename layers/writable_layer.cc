#include "layers/writable_layer.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/vfs.h>

#include "layers/identity.h"
#include "layers/override_stat.h"
#include "layers/shown_xattrs.h"

namespace layerfs {
namespace {

std::string override_value(const Identity& identity) {
  return format_override_stat(
      OverrideStat{identity.uid, identity.gid, identity.mode, identity.rdev});
}

// Whether the shown attribute moves along with a copy. The ACLs are copied like the others;
// what the kernel derives (selinux labels of the target) is not ours to set.
bool is_copied_xattr(std::string_view name) {
  return name != "security.selinux" && name != "security.ima" && name != "security.evm";
}

}  // namespace

Status WritableLayer::give_owner(sys::At self, const Identity& identity) {
  if (!overrides()) {
    return sys::chown_at(self, identity.uid, identity.gid);
  }
  if (!S_ISLNK(identity.mode)) {
    return sys::set_xattr(self, override_stat_xattr(form_), override_value(identity));
  }
  // A symlink takes no user attributes: it has the owner that it really has. A caller whom
  // the user namespace does not map is EINVAL.
  const auto owned = sys::chown_at(self, identity.uid, identity.gid);
  const bool may_not =
      !owned && (is_not_permitted(owned.error()) || owned.error().value() == EINVAL);
  return may_not ? Status() : owned;
}

Status WritableLayer::give_mode(sys::At at, const Identity& identity) {
  if (S_ISLNK(identity.mode)) {
    return {};
  }
  return sys::chmod_at(at, stored_mode(identity.mode));
}

mode_t WritableLayer::stored_mode(mode_t mode) const {
  return overrides() ? usable_mode(mode) : mode & kPermissions;
}

WritableLayer::WritableLayer(LayerIndex index, Workdir workdir, MarkWriter marks, OverrideForm form,
                             Durability durability)
    : index_(index),
      workdir_(std::move(workdir)),
      marks_(marks),
      form_(form),
      durability_(durability) {
  struct statfs where {};
  may_lose_order_ = durability == Durability::Synced && ::fstatfs(workdir_.fd(), &where) == 0 &&
                    where.f_type == BTRFS_SUPER_MAGIC;
}

Status WritableLayer::keep_order() {
  return may_lose_order_ ? sync({workdir_.fd(), "."}) : Status();
}

Status WritableLayer::sync(sys::At at) {
  LFS_ASSIGN(const UniqueFd fd, sys::open_at(at, O_RDONLY | O_NONBLOCK));
  return sys::fsync_fd(fd.get());
}

Result<Staged> WritableLayer::stage_new(const NewObject& object) {
  const mode_t mode = object.identity.mode;
  Staged staged{TempEntry(workdir_.fd(), workdir_.temp_name()), UniqueFd()};
  const sys::At at = staged.entry.at();
  if (S_ISDIR(mode)) {
    LFS_TRY(sys::mkdir_at(at, 0700));
  } else if (S_ISLNK(mode)) {
    LFS_TRY(sys::symlink_at(object.symlink_target, at));
  } else if (S_ISREG(mode)) {
    LFS_ASSIGN(staged.fd, sys::open_at(at, O_RDWR | O_CREAT | O_EXCL, 0600));
  } else if (overrides()) {
    LFS_TRY(sys::mknod_at(at, S_IFREG | 0600, 0));
  } else {
    LFS_TRY(sys::mknod_at(at, (mode & S_IFMT) | 0600, object.identity.rdev));
  }
  LFS_TRY(give_owner(staged.fd ? sys::At{staged.fd.get()} : at, object.identity));
  if (object.access_acl) {
    LFS_TRY(give_acl(at, mode, *object.access_acl));
  }
  if (object.default_acl) {
    LFS_TRY(sys::set_xattr(at, kAclDefaultXattr, *object.default_acl));
  }
  // After the ACL, which changes the mode.
  LFS_TRY(give_mode(at, object.identity));
  return staged;
}

Status WritableLayer::give_acl(sys::At at, mode_t mode, const std::string& value) {
  if (!overrides()) {
    return sys::set_xattr(at, kAclAccessXattr, value);
  }
  // It sets the stored mode, which must not take the file from the daemon.
  LFS_ASSIGN(const std::string usable, acl_with_mode(value, usable_mode(mode)));
  return sys::set_xattr(at, kAclAccessXattr, usable);
}

Result<bool> WritableLayer::copy_attributes(const CopySource& source, const Identity& identity,
                                            sys::At to) {
  bool has_acl = false;
  LFS_ASSIGN(const auto names, list_shown_xattrs(source.at, source.form));
  for (const std::string& name : names) {
    if (!is_copied_xattr(name)) {
      continue;
    }
    LFS_ASSIGN(const auto value, get_shown_xattr(source.at, source.form, name));
    if (!value) {
      return Errno(EIO);  // listed a moment ago, and nobody may change a lower
    }
    has_acl = has_acl || name == kAclAccessXattr;
    const auto set = name == kAclAccessXattr ? give_acl(to, identity.mode, *value)
                                             : set_shown_xattr(to, form_, name, *value);
    // Where the process may not set security attributes the kernel would not have
    // honoured them for it either; anything else lost is wrong data.
    const bool may_lack = name.starts_with("security.") && overrides();
    // A layer without attributes could not take the file at all. Overlayfs leaves the same out
    // (Linux fs/overlayfs/copy_up.c: ovl_copy_xattr, ovl_must_copy_xattr).
    const bool cannot_have = !set && set.error().value() == EOPNOTSUPP && !marks_.has_xattrs() &&
                             (name.starts_with("user.") || name.starts_with("trusted."));
    if (!set && !cannot_have &&
        !(may_lack && (is_not_permitted(set.error()) || is_unsupported(set.error())))) {
      return set.error();
    }
  }
  return has_acl;
}

Result<Staged> WritableLayer::stage_copy(const CopySource& source) {
  const Identity identity = source.identity.value_or(
      Identity{source.st.stx_uid, source.st.stx_gid, source.st.stx_mode, sys::rdev_of(source.st)});
  NewObject shell{{identity.uid, identity.gid, identity.mode, identity.rdev}, {}, {}, {}};
  if (S_ISLNK(identity.mode)) {
    LFS_ASSIGN(shell.symlink_target, sys::readlink_at(source.at));
  }
  Staged staged{TempEntry(workdir_.fd(), workdir_.temp_name()), UniqueFd()};
  const bool regular = S_ISREG(identity.mode);
  if (regular) {
    LFS_ASSIGN(staged.fd, sys::open_at(staged.entry.at(), O_RDWR | O_CREAT | O_EXCL,
                                       (stored_mode(identity.mode) & 0777U) | 0600U));
    if (source.content == CopyContent::All && source.size > 0) {
      LFS_ASSIGN(staged.bytes_copied,
                 sys::copy_content(source.data_fd, staged.fd.get(), source.size));
    } else if (source.content == CopyContent::None) {
      LFS_TRY(sys::truncate_fd(staged.fd.get(), static_cast<off_t>(source.size)));
      LFS_TRY(marks_.set_metacopy({staged.fd.get()}));
    }
  } else {
    LFS_ASSIGN(staged, stage_new(shell));
  }
  const sys::At at = staged.entry.at();
  const sys::At self = staged.fd ? sys::At{staged.fd.get()} : at;
  // Changing the owner drops set-id bits and security.capability, and setting an access
  // ACL changes the mode: owner, attributes, mode; times after everything.
  LFS_ASSIGN(const struct statx own, sys::stat_at(self));
  if (overrides() || own.stx_uid != identity.uid || own.stx_gid != identity.gid) {
    LFS_TRY(give_owner(self, identity));
  }
  LFS_ASSIGN(const bool has_acl, copy_attributes(source, identity, self));
  if (!regular || has_acl || (own.stx_mode & kPermissions) != stored_mode(identity.mode)) {
    LFS_TRY(give_mode(at, identity));
  }
  if (source.origin && marks_.has_xattrs()) {
    const auto set = marks_.set_origin(self, *source.origin, own.stx_ino);
    // Special files take no user attributes; they keep the inode number of the copy.
    if (!set && !is_not_permitted(set.error()) && !is_unsupported(set.error())) {
      return set.error();
    }
  }
  const struct timespec times[2] = {{source.st.stx_atime.tv_sec, source.st.stx_atime.tv_nsec},
                                    {source.st.stx_mtime.tv_sec, source.st.stx_mtime.tv_nsec}};
  LFS_TRY(sys::utimens_at(self, times));
  // CRASH: without this the new name could survive a power cut and its data not.
  if (regular && source.content == CopyContent::All && source.size > 0 && !is_volatile()) {
    LFS_TRY(sys::fsync_fd(staged.fd.get()));
  }
  return staged;
}

Result<bool> WritableLayer::overrides(sys::At at) const {
  if (!overrides()) {
    return false;
  }
  LFS_ASSIGN(const struct statx st, sys::stat_at(at));
  return sys::takes_user_xattrs(st.stx_mode);
}

Status WritableLayer::set_owner(sys::At at, const Identity& old, uid_t uid, gid_t gid) {
  LFS_ASSIGN(const bool in_attribute, overrides(at));
  if (!in_attribute) {
    return sys::chown_at(at, uid, gid);
  }
  Identity identity = old;
  identity.uid = uid == static_cast<uid_t>(-1) ? old.uid : uid;
  identity.gid = gid == static_cast<gid_t>(-1) ? old.gid : gid;
  return sys::set_xattr(at, override_stat_xattr(form_), override_value(identity));
}

Status WritableLayer::set_mode(sys::At at, const Identity& old, mode_t mode) {
  LFS_ASSIGN(const bool in_attribute, overrides(at));
  if (!in_attribute) {
    return sys::chmod_at(at, mode & kPermissions);
  }
  Identity identity = old;
  identity.mode = (old.mode & S_IFMT) | (mode & kPermissions);
  LFS_TRY(sys::set_xattr(at, override_stat_xattr(form_), override_value(identity)));
  return sys::chmod_at(at, usable_mode(identity.mode));
}

Status WritableLayer::set_access_acl(sys::At at, const Identity& old, const std::string& value,
                                     int flags, bool keep_set_group_id) {
  Identity identity = old;
  std::string stored = value;
  if (overrides()) {
    LFS_ASSIGN(const std::optional<mode_t> permissions, mode_of_acl(value));
    if (permissions) {
      identity.mode = (identity.mode & ~static_cast<mode_t>(0777)) | *permissions;
    }
    LFS_ASSIGN(stored, acl_with_mode(value, usable_mode(identity.mode)));
  }
  LFS_TRY(sys::set_xattr(at, kAclAccessXattr, stored, flags));
  if (!overrides()) {
    LFS_ASSIGN(const struct statx st, sys::stat_at(at));
    identity.mode = st.stx_mode;
  }
  if (!keep_set_group_id) {
    identity.mode &= ~static_cast<mode_t>(S_ISGID);
  }
  const bool changes = overrides() || ((identity.mode ^ old.mode) & S_ISGID) != 0;
  return changes ? set_mode(at, old, identity.mode) : Status();
}

Status WritableLayer::publish(TempEntry& entry, bool is_directory, int dir, const std::string& name,
                              bool over_whiteout) {
  const sys::At to{dir, name.c_str()};
  if (!over_whiteout) {
    LFS_TRY(sys::rename_at(entry.at(), to, RENAME_NOREPLACE));
    entry.release();
    return {};
  }
  LFS_TRY(keep_order());
  LFS_ASSIGN(const auto there, sys::try_stat_at(to));
  if (!there) {
    // The whiteout is `.wh.NAME`: what stands beside it is shown, so it goes last.
    LFS_TRY(sys::rename_at(entry.at(), to, RENAME_NOREPLACE));
    entry.release();
    ignore(marks_.remove_whiteout(dir, name), "what stands beside it is shown all the same");
    return {};
  }
  if (!is_directory) {
    LFS_TRY(sys::rename_at(entry.at(), to));
    entry.release();
    return {};
  }
  // A directory cannot be renamed over the whiteout, which is no directory; after the
  // exchange the whiteout is the entry in work/, and is removed with it.
  return sys::rename_at(entry.at(), to, RENAME_EXCHANGE);
}

}  // namespace layerfs
