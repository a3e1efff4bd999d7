#include "tools/run/mount_calls.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace layerfs::run {
namespace {

Status status_of(long rc) { return rc < 0 ? Status(Errno::last()) : Status(); }

Status change(int mount, const struct mount_attr& attributes, bool recursive) {
  const unsigned flags =
      static_cast<unsigned>(AT_EMPTY_PATH) | (recursive ? static_cast<unsigned>(AT_RECURSIVE) : 0U);
  return status_of(::syscall(SYS_mount_setattr, mount, "", flags, &attributes, sizeof attributes));
}

}  // namespace

Result<UniqueFd> clone_mounts(int dir, const char* path) {
  const unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | static_cast<unsigned>(AT_RECURSIVE) |
                         (*path == '\0' ? static_cast<unsigned>(AT_EMPTY_PATH) : 0U);
  UniqueFd fd(static_cast<int>(::syscall(SYS_open_tree, dir, path, flags)));
  if (!fd) {
    return Errno::last();
  }
  return fd;
}

Result<UniqueFd> new_filesystem(const char* type, std::initializer_list<FsOption> options,
                                std::uint64_t attributes) {
  const UniqueFd context(static_cast<int>(::syscall(SYS_fsopen, type, FSOPEN_CLOEXEC)));
  if (!context) {
    return Errno::last();
  }
  for (const FsOption& option : options) {
    const bool flag = option.value.empty();
    LFS_TRY(status_of(::syscall(SYS_fsconfig, context.get(),
                                flag ? FSCONFIG_SET_FLAG : FSCONFIG_SET_STRING, option.key,
                                flag ? nullptr : option.value.c_str(), 0)));
  }
  LFS_TRY(
      status_of(::syscall(SYS_fsconfig, context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0)));
  UniqueFd mount(static_cast<int>(
      ::syscall(SYS_fsmount, context.get(), FSMOUNT_CLOEXEC, static_cast<unsigned>(attributes))));
  if (!mount) {
    return Errno::last();
  }
  return mount;
}

Status set_attributes(int mount, std::uint64_t set, bool recursive) {
  struct mount_attr attributes {};
  attributes.attr_set = set;
  return change(mount, attributes, recursive);
}

Status set_propagation(int mount, std::uint64_t propagation) {
  struct mount_attr attributes {};
  attributes.propagation = propagation;
  return change(mount, attributes, /*recursive=*/true);
}

Status attach(int mount, int target) {
  return status_of(::syscall(SYS_move_mount, mount, "", target, "",
                             MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH));
}

}  // namespace layerfs::run
