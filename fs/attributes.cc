// Attributes, extended attributes, symlinks.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <atomic>

#include "fs/file_system.h"
#include "layers/acl.h"
#include "layers/shown_xattrs.h"

namespace layerfs {
namespace {

constexpr mode_t kSetIds = S_ISUID | S_ISGID;

bool is_acl(std::string_view name) { return name == kAclAccessXattr || name == kAclDefaultXattr; }

bool is_in_known_namespace(std::string_view name) {
  for (const std::string_view prefix : {"user.", "trusted.", "security."}) {
    if (name.starts_with(prefix)) {
      return true;
    }
  }
  return is_acl(name);
}

}  // namespace

Result<struct stat> FileSystem::get_attributes(NodeId id) {
  const SharedTree lock(tree_);
  LFS_ASSIGN(Node * node, node_of(id));
  return attributes_of(*node);
}

Result<struct statx> FileSystem::get_extended_attributes(NodeId id) {
  const SharedTree lock(tree_);
  LFS_ASSIGN(Node * node, node_of(id));
  LFS_ASSIGN(const Observed observed, observe(*node));
  LFS_ASSIGN(const struct stat shown, attributes_of(*node, observed));
  struct statx st = observed.st;
  st.stx_mask &= STATX_BASIC_STATS | STATX_BTIME;
  st.stx_ino = shown.st_ino;
  st.stx_nlink = static_cast<std::uint32_t>(shown.st_nlink);
  st.stx_mode = static_cast<std::uint16_t>(shown.st_mode);
  st.stx_uid = shown.st_uid;
  st.stx_gid = shown.st_gid;
  st.stx_rdev_major = major(shown.st_rdev);
  st.stx_rdev_minor = minor(shown.st_rdev);
  return st;
}

Result<UniqueFd> FileSystem::open_for_flags(NodeId id, Access access) {
  if (access == Access::Write) {
    LFS_TRY(copy_up(id, Need::Data));
    // A descriptor from before could still write what the flags forbid.
    descriptors_.drop_data(id);
  }
  const SharedTree lock(tree_);
  LFS_ASSIGN(Node * node, node_of(id));
  LFS_ASSIGN(const Located located, locate(*node));
  if (node->is_dir()) {
    return sys::open_at({located.dir->get(), "."}, O_RDONLY | O_DIRECTORY);
  }
  if (node->type != DT_REG) {
    return Errno(ENOTTY);  // as the kernel has it: the ioctls of others are their own
  }
  return sys::open_at(located.at(), O_RDONLY | O_NONBLOCK);
}

Result<std::string> FileSystem::read_link(NodeId id) {
  const SharedTree lock(tree_);
  LFS_ASSIGN(Node * node, node_of(id));
  LFS_ASSIGN(const Located located, locate(*node));
  return sys::readlink_at(located.at());
}

// fs/attr.c: setattr_should_drop_suidgid, setattr_should_drop_sgid; notify_change asks the
// owner where a bit goes by a chown(2).
Result<mode_t> FileSystem::mode_after(const Node& node, const Identity& old,
                                      const AttributeChange& change) const {
  const SetIds set_ids = change.set_ids;
  const mode_t has = old.mode & kSetIds;
  if (set_ids == SetIds::Keep || node.is_dir() || has == 0) {
    return old.mode;
  }
  mode_t drop = S_ISUID;
  if ((old.mode & S_IXGRP) != 0 ||
      !change.caller.in_group_or_capable(options_.gids.to_shown(old.gid))) {
    drop |= S_ISGID;
  }
  if ((has & drop) == 0) {
    return old.mode;
  }
  if (set_ids == SetIds::DropByWrite && change.caller.has_cap_fsetid()) {
    return old.mode;
  }
  if (set_ids == SetIds::DropByOwner && change.caller.uid != 0 &&
      change.caller.uid != options_.uids.to_shown(old.uid)) {
    return Errno(EPERM);
  }
  return old.mode & ~drop;
}

Status FileSystem::set_owner(WritableLayer& layer, sys::At at, const Identity& old,
                             const AttributeChange& change) const {
  uid_t uid = static_cast<uid_t>(-1);
  gid_t gid = static_cast<gid_t>(-1);
  if (change.uid) {
    const auto mapped = options_.uids.to_disk(*change.uid);
    if (!mapped) {
      return Errno(EINVAL);
    }
    uid = *mapped;
  }
  if (change.gid) {
    const auto mapped = options_.gids.to_disk(*change.gid);
    if (!mapped) {
      return Errno(EINVAL);
    }
    gid = *mapped;
  }
  const auto owned = layer.set_owner(at, old, uid, gid);
  const bool squashed = options_.uids.is_squash() || options_.gids.is_squash();
  if (!owned && !(squashed && is_not_permitted(owned.error()))) {
    return owned.error();
  }
  return {};
}

Status FileSystem::set_owner_and_mode(Node& node, WritableLayer& layer, sys::At at,
                                      const AttributeChange& change) {
  if (!layer.overrides() && change.set_ids == SetIds::Keep) {
    // Nothing hangs on what it was before.
    if (change.uid || change.gid) {
      LFS_TRY(set_owner(layer, at, Identity{}, change));
    }
    return change.mode ? layer.set_mode(at, Identity{}, *change.mode) : Status();
  }
  LFS_ASSIGN(const Observed before, observe(at, node.layer));
  LFS_ASSIGN(const mode_t kept, mode_after(node, before.identity, change));
  // A chown(2) of neither owner nor group still changes the ctime.
  const bool chowned = change.uid || change.gid || change.set_ids == SetIds::DropByOwner;
  if (chowned) {
    // CRASH: set-id bits are never seen with the new owner.
    Identity owned = before.identity;
    owned.mode = kept;
    LFS_TRY(set_owner(layer, at, owned, change));
  }
  const bool settled = change.set_ids == SetIds::Keep ||
                       (kept == before.identity.mode && (!chowned || (kept & kSetIds) == 0));
  if (!change.mode && settled) {
    return {};
  }
  // A change of the owner drops bits by what the daemon may keep, not the caller.
  LFS_ASSIGN(const Observed now, observe(at, node.layer));
  const mode_t wanted = change.mode.value_or(kept);
  if (change.mode || wanted != now.identity.mode) {
    LFS_TRY(layer.set_mode(at, now.identity, wanted));
  }
  return {};
}

Result<struct stat> FileSystem::set_attributes(NodeId id, const AttributeChange& asked) {
  AttributeChange change = asked;
  const bool only_set_ids = !change.mode && !change.uid && !change.gid && !change.size &&
                            change.atime.tv_nsec == UTIME_OMIT &&
                            change.mtime.tv_nsec == UTIME_OMIT;
  if (change.kept_times || only_set_ids) {
    const SharedTree lock(tree_);
    LFS_ASSIGN(Node * node, node_of(id));
    if (only_set_ids && change.set_ids == SetIds::DropByWrite && node->type != DT_REG) {
      change.set_ids = SetIds::DropByOwner;  // no write comes here
    }
    if (node->is_below()) {
      LFS_ASSIGN(const Located located, locate(*node));
      LFS_ASSIGN(const Observed observed, observe(located.at(), node->layer));
      LFS_ASSIGN(const mode_t kept, mode_after(*node, observed.identity, change));
      // Else the unlink of a lower file would copy the file up once it is deleted.
      const bool same_times = observed.st.stx_mtime.tv_sec == change.mtime.tv_sec &&
                              observed.st.stx_mtime.tv_nsec == change.mtime.tv_nsec;
      if (only_set_ids ? kept == observed.identity.mode : same_times) {
        return attributes_of(*node, observed);
      }
    }
  }
  if (change.size) {
    LFS_TRY(copy_up(id, Need::Data, static_cast<std::uint64_t>(*change.size)));
    LFS_ASSIGN(const SharedFd fd, data(id, Access::Write));
    LFS_TRY(sys::truncate_fd(fd->get(), *change.size));
  } else {
    LFS_TRY(copy_up(id, Need::Attributes));
  }
  const SharedTree lock(tree_);
  LFS_ASSIGN(Node * node, node_of(id));
  WritableLayer* layer = writable(node->layer);
  if (layer == nullptr) {
    return Errno(EIO);
  }
  LFS_ASSIGN(const Located located, locate(*node));
  const sys::At at = located.at();
  if (change.mode || change.uid || change.gid || change.set_ids != SetIds::Keep) {
    LFS_TRY(set_owner_and_mode(*node, *layer, at, change));
  }
  if (change.atime.tv_nsec != UTIME_OMIT || change.mtime.tv_nsec != UTIME_OMIT) {
    const struct timespec times[2] = {change.atime, change.mtime};
    const std::lock_guard mtime_lock(mtime_mutexes_[id % mtime_mutexes_.size()]);
    LFS_TRY(sys::utimens_at(at, times));
  }
  LFS_ASSIGN(const Observed observed, observe(at, node->layer));
  return attributes_of(*node, observed);
}

Result<std::string> FileSystem::get_xattr(NodeId id, const std::string& name) {
  if (is_internal_xattr(name)) {
    return Errno(ENODATA);
  }
  const SharedTree lock(tree_);
  LFS_ASSIGN(Node * node, node_of(id));
  LFS_ASSIGN(const Located located, locate(*node));
  LFS_ASSIGN(auto value, get_shown_xattr(located.at(), form_of(node->layer), name));
  if (!value) {
    return Errno(is_in_known_namespace(name) ? ENODATA : EOPNOTSUPP);
  }
  if (name == kAclAccessXattr) {
    // Where override_stat has the mode, the stored ACL goes with the stored one.
    LFS_ASSIGN(const Observed observed, observe(located.at(), node->layer));
    if (((observed.identity.mode ^ observed.st.stx_mode) & 0777) != 0) {
      LFS_ASSIGN(value, acl_with_mode(*value, observed.identity.mode));
    }
  }
  if (is_acl(name)) {
    return acl_shown(std::move(*value), options_.uids, options_.gids);
  }
  return std::move(*value);
}

Result<std::vector<std::string>> FileSystem::list_xattrs(NodeId id) {
  const SharedTree lock(tree_);
  LFS_ASSIGN(Node * node, node_of(id));
  LFS_ASSIGN(const Located located, locate(*node));
  return list_shown_xattrs(located.at(), form_of(node->layer));
}

Status FileSystem::set_xattr(NodeId id, const std::string& name, std::string_view value, int flags,
                             const CallerRights& caller) {
  if (is_internal_xattr(name)) {
    return Errno(EPERM);
  }
  if (!is_in_known_namespace(name)) {
    return Errno(EOPNOTSUPP);
  }
  std::string acl;
  if (is_acl(name)) {
    LFS_ASSIGN(acl, acl_on_disk(std::string(value), options_.uids, options_.gids));
    value = acl;
  }
  LFS_TRY(copy_up(id, Need::Attributes));
  const SharedTree lock(tree_);
  LFS_ASSIGN(Node * node, node_of(id));
  LFS_ASSIGN(const Located located, locate(*node));
  WritableLayer* layer = writable(node->layer);
  if (name != kAclAccessXattr || layer == nullptr) {
    return set_shown_xattr(located.at(), form_of(node->layer), name, value, flags);
  }
  LFS_ASSIGN(const Observed observed, observe(located.at(), node->layer));
  const Identity& old = observed.identity;
  const bool keep_set_group_id =
      (old.mode & S_ISGID) == 0 || caller.in_group_or_capable(options_.gids.to_shown(old.gid));
  return layer->set_access_acl(located.at(), old, std::string(value), flags, keep_set_group_id);
}

Status FileSystem::remove_xattr(NodeId id, const std::string& name) {
  if (is_internal_xattr(name)) {
    return Errno(EPERM);
  }
  if (!is_in_known_namespace(name)) {
    return Errno(EOPNOTSUPP);
  }
  {
    // Nothing is copied up for an attribute that is not there.
    const SharedTree lock(tree_);
    LFS_ASSIGN(Node * node, node_of(id));
    LFS_ASSIGN(const Located located, locate(*node));
    LFS_ASSIGN(const auto value, get_shown_xattr(located.at(), form_of(node->layer), name));
    if (!value) {
      // An ACL that says no more than the mode is not stored, so it is always there.
      return is_acl(name) ? Status() : Status(Errno(ENODATA));
    }
  }
  LFS_TRY(copy_up(id, Need::Attributes));
  const SharedTree lock(tree_);
  LFS_ASSIGN(Node * node, node_of(id));
  LFS_ASSIGN(const Located located, locate(*node));
  return remove_shown_xattr(located.at(), form_of(node->layer), name);
}

Status FileSystem::sync(NodeId id, bool data_only) {
  SharedFd fd;
  bool settles = false;
  {
    const SharedTree lock(tree_);
    LFS_ASSIGN(Node * node, node_of(id));
    WritableLayer* layer = writable(node->layer);
    if (layer == nullptr || layer->is_volatile()) {
      return {};  // a lower cannot have changed
    }
    if (node->is_dir()) {
      LFS_ASSIGN(const SharedFd dir, directory_fd(*node, node->layer));
      LFS_ASSIGN(UniqueFd opened, sys::open_at({dir->get(), "."}, O_RDONLY | O_DIRECTORY));
      fd = share(std::move(opened));
      data_only = false;
    } else {
      // fdatasync(2) leaves out what no data needs. To a caller the file is an old one, but
      // here a copy may have got its name, or lost the mark that its data is below, just now:
      // the first time all of it goes.
      LFS_ASSIGN(const Content content, content_of(*node));
      const bool settled = std::atomic_ref(node->is_settled).load(std::memory_order_relaxed);
      data_only = data_only && settled;
      settles = !settled && content == Content::Here;
      fd = descriptors_.find(DescriptorKey::writing(id));
      if (!fd) {
        LFS_ASSIGN(const Located located, locate(*node));
        LFS_ASSIGN(UniqueFd opened, sys::open_at(located.at(), O_RDONLY | O_NONBLOCK));
        fd = share(std::move(opened));
      }
    }
  }
  LFS_TRY(data_only ? sys::fdatasync_fd(fd->get()) : sys::fsync_fd(fd->get()));
  if (settles) {
    const SharedTree lock(tree_);
    if (const auto node = node_of(id)) {
      std::atomic_ref((*node)->is_settled).store(true, std::memory_order_relaxed);
    }
  }
  return {};
}

bool FileSystem::is_unsettled_copy(NodeId id) {
  const SharedTree lock(tree_);
  const auto node = node_of(id);
  return node && (*node)->is_new_copy &&
         !std::atomic_ref((*node)->is_settled).load(std::memory_order_relaxed);
}

}  // namespace layerfs
