// Removal of trees that nobody else uses.
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>

#include "layers/sys/bulk.h"
#include "layers/sys/call.h"

namespace layerfs::sys {

namespace {

// Below, directories are moved up first: each level takes a descriptor.
constexpr unsigned kMostLevels = 64;

// Removes what is no directory. false: it is one.
Result<bool> remove_other(At at) {
  if (::unlinkat(at.dir, at.name, 0) == 0) {
    return true;
  }
  if (errno != EISDIR && errno != EPERM) {
    return Errno::last();
  }
  return false;
}

class TreeRemoval {
 public:
  explicit TreeRemoval(int top) : top_(top) {}

  // All that is in the top.
  Status run() {
    for (;;) {
      LFS_ASSIGN(const auto names, names_in(top_));
      if (names.empty()) {
        return {};
      }
      for (const std::string& name : names) {
        LFS_TRY(remove({top_, name.c_str()}, 1));
      }
    }
  }

 private:
  Status remove(At at, unsigned level) {
    LFS_ASSIGN(const bool removed, remove_other(at));
    if (removed) {
      return {};
    }
    if (level > kMostLevels) {
      return move_up(at);
    }
    {
      LFS_ASSIGN(const UniqueFd dir, open_at(at, O_PATH | O_DIRECTORY));
      // Names first: some filesystems skip entries when a directory shrinks under a reader.
      LFS_ASSIGN(const auto names, names_in(dir.get()));
      for (const std::string& name : names) {
        LFS_TRY(remove({dir.get(), name.c_str()}, level + 1));
      }
    }
    return unlink_at(at, UnlinkKind::Directory);
  }

  Status move_up(At at) {
    for (;;) {
      const std::string name = "#removed-" + std::to_string(++moved_);
      auto moved = rename_at(at, {top_, name.c_str()}, RENAME_NOREPLACE);
      if (!moved && moved.error().value() == EINVAL) {
        moved = rename_at(at, {top_, name.c_str()});  // the filesystem has no such flag
      }
      if (moved || moved.error().value() != EEXIST) {
        return moved;
      }
    }
  }

  int top_;
  std::uint64_t moved_ = 0;
};

}  // namespace

Status remove_tree(At at) {
  LFS_ASSIGN(const bool removed, remove_other(at));
  if (removed) {
    return {};
  }
  LFS_ASSIGN(const UniqueFd top, open_at(at, O_PATH | O_DIRECTORY));
  LFS_TRY(TreeRemoval(top.get()).run());
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
