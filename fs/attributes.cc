// Attributes, extended attributes, symlinks.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "fs/file_system.h"
#include "layers/acl.h"

namespace layerfs {
namespace {

constexpr mode_t kSetIds = S_ISUID | S_ISGID;

// What a write by a process that may not keep the set-id bits leaves (fs/attr.c:
// setattr_should_drop_sgid). A request does not tell supplementary groups: a member by
// one of those loses the bit too.
mode_t without_set_ids(mode_t mode, bool in_group) {
  mode &= ~static_cast<mode_t>(S_ISUID);
  if ((mode & S_IXGRP) != 0 || !in_group) {
    mode &= ~static_cast<mode_t>(S_ISGID);
  }
  return mode;
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

Result<struct stat> FileSystem::set_attributes(NodeId id, const AttributeChange& change) {
  if (change.kept_times) {
    // Else the unlink of a lower file would copy the file up once it is deleted.
    const SharedTree lock(tree_);
    LFS_ASSIGN(Node * node, node_of(id));
    LFS_ASSIGN(const Located located, locate(*node));
    LFS_ASSIGN(const Observed observed, observe(located.at(), node->layer));
    if (node->is_below() && observed.st.stx_mtime.tv_sec == change.mtime.tv_sec &&
        observed.st.stx_mtime.tv_nsec == change.mtime.tv_nsec) {
      return attributes_of(*node, observed);
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
  if (change.uid || change.gid) {
    LFS_ASSIGN(const Observed observed, observe(at, node->layer));
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
    const auto owned = layer->set_owner(at, observed.identity, uid, gid);
    const bool squashed = options_.uids.is_squash() || options_.gids.is_squash();
    if (!owned && !(squashed && is_not_permitted(owned.error()))) {
      return owned.error();
    }
  }
  const bool kill = change.kill_set_ids && node->type == DT_REG;
  if (change.mode || kill) {
    LFS_ASSIGN(const Observed observed, observe(at, node->layer));
    mode_t mode = change.mode.value_or(observed.identity.mode);
    if (kill && !change.mode) {
      const bool in_group = change.caller_gid == options_.gids.to_shown(observed.identity.gid);
      mode = without_set_ids(mode, in_group);
    }
    if (change.mode || ((mode ^ observed.identity.mode) & kSetIds) != 0) {
      LFS_TRY(layer->set_mode(at, observed.identity, mode));
    }
  }
  if (change.atime.tv_nsec != UTIME_OMIT || change.mtime.tv_nsec != UTIME_OMIT) {
    const struct timespec times[2] = {change.atime, change.mtime};
    const std::lock_guard mtime_lock(mtime_mutexes_[id % mtime_mutexes_.size()]);
    LFS_TRY(sys::utimens_at(at, times));
  }
  LFS_ASSIGN(const Observed observed, observe(at, node->layer));
  return attributes_of(*node, observed);
}

Status FileSystem::kill_set_ids(NodeId id, gid_t caller_gid) {
  AttributeChange change;
  change.kill_set_ids = true;
  change.caller_gid = caller_gid;
  LFS_ASSIGN(const struct stat attr, set_attributes(id, change));
  ignore(Result<struct stat>(attr), "only the change was wanted");
  return {};
}

Result<std::string> FileSystem::get_xattr(NodeId id, const std::string& name) {
  if (is_internal_xattr(name)) {
    return Errno(ENODATA);
  }
  const SharedTree lock(tree_);
  LFS_ASSIGN(Node * node, node_of(id));
  LFS_ASSIGN(const Located located, locate(*node));
  LFS_ASSIGN(auto value, sys::get_xattr(located.at(), name.c_str()));
  if (!value) {
    return Errno(ENODATA);
  }
  return std::move(*value);
}

Result<std::vector<std::string>> FileSystem::list_xattrs(NodeId id) {
  const SharedTree lock(tree_);
  LFS_ASSIGN(Node * node, node_of(id));
  LFS_ASSIGN(const Located located, locate(*node));
  LFS_ASSIGN(auto names, sys::list_xattrs(located.at()));
  std::erase_if(names, [](const std::string& name) { return is_internal_xattr(name); });
  return names;
}

Status FileSystem::set_xattr(NodeId id, const std::string& name, std::string_view value,
                             int flags) {
  if (is_internal_xattr(name)) {
    return Errno(EPERM);
  }
  LFS_TRY(copy_up(id, Need::Attributes));
  const SharedTree lock(tree_);
  LFS_ASSIGN(Node * node, node_of(id));
  LFS_ASSIGN(const Located located, locate(*node));
  return sys::set_xattr(located.at(), name.c_str(), value, flags);
}

Status FileSystem::remove_xattr(NodeId id, const std::string& name) {
  if (is_internal_xattr(name)) {
    return Errno(EPERM);
  }
  {
    // Nothing is copied up for an attribute that is not there.
    const SharedTree lock(tree_);
    LFS_ASSIGN(Node * node, node_of(id));
    LFS_ASSIGN(const Located located, locate(*node));
    LFS_ASSIGN(const auto value, sys::get_xattr(located.at(), name.c_str()));
    if (!value) {
      // An ACL that says no more than the mode is not stored, so it is always there.
      const bool acl = name == kAclAccessXattr || name == kAclDefaultXattr;
      return acl ? Status() : Status(Errno(ENODATA));
    }
  }
  LFS_TRY(copy_up(id, Need::Attributes));
  const SharedTree lock(tree_);
  LFS_ASSIGN(Node * node, node_of(id));
  LFS_ASSIGN(const Located located, locate(*node));
  return sys::remove_xattr(located.at(), name.c_str());
}

Status FileSystem::sync(NodeId id, bool data_only) {
  SharedFd fd;
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
    } else {
      fd = descriptors_.find(DescriptorKey::writing(id));
      if (!fd) {
        LFS_ASSIGN(const Located located, locate(*node));
        LFS_ASSIGN(UniqueFd opened, sys::open_at(located.at(), O_RDONLY | O_NONBLOCK));
        fd = share(std::move(opened));
      }
    }
  }
  return data_only ? sys::fdatasync_fd(fd->get()) : sys::fsync_fd(fd->get());
}

}  // namespace layerfs
