// Removal of trees that nobody else uses.
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "layers/sys/call.h"
#include "layers/sys/syscalls.h"

namespace layerfs::sys {

Status remove_tree(At at) {
  if (::unlinkat(at.dir, at.name, 0) == 0) {
    return {};
  }
  if (errno != EISDIR && errno != EPERM) {
    return Errno::last();
  }
  auto fd = open_at(at, O_RDONLY | O_DIRECTORY);
  if (!fd) {
    return fd.error();
  }
  // Names first: some filesystems skip entries when a directory shrinks under a reader.
  std::vector<std::string> names;
  DirReader reader(fd->get());
  for (;;) {
    LFS_ASSIGN(auto entry, reader.next());
    if (!entry) {
      break;
    }
    names.emplace_back(entry->name);
  }
  for (const std::string& name : names) {
    LFS_TRY(remove_tree(At{fd->get(), name.c_str()}));
  }
  return unlink_at(at, UnlinkKind::Directory);
}

namespace {

// Only of what can be opened without harm. Returns whether there was such a flag.
Result<bool> clear_protection(At at) {
  LFS_ASSIGN(const auto st, stat_at(at));
  if (!S_ISREG(st.stx_mode) && !S_ISDIR(st.stx_mode)) {
    return false;
  }
  LFS_ASSIGN(const UniqueFd fd, open_at(at, O_RDONLY | O_NONBLOCK));
  int flags = 0;
  constexpr int kProtecting = FS_IMMUTABLE_FL | FS_APPEND_FL;
  if (::ioctl(fd.get(), FS_IOC_GETFLAGS, &flags) < 0 || (flags & kProtecting) == 0) {
    return false;
  }
  flags &= ~kProtecting;
  LFS_TRY(status_of(::ioctl(fd.get(), FS_IOC_SETFLAGS, &flags)));
  return true;
}

}  // namespace

Status remove_nameless(At at) {
  auto removed = remove_tree(at);
  if (!removed && (removed.error().value() == EPERM || removed.error().value() == ENOTDIR)) {
    LFS_ASSIGN(const bool cleared, clear_protection(at));
    return cleared ? remove_tree(at) : removed;
  }
  return removed;
}

}  // namespace layerfs::sys
