#include "layers/sys/syscalls.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <climits>
#include <cstdio>
#include <cstring>

#include "layers/sys/call.h"

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif

namespace layerfs {

std::string describe(Errno error) {
  std::array<char, 256> buffer{};
  return strerror_r(error.value(), buffer.data(), buffer.size());
}

void UniqueFd::reset(int fd) {
  if (fd_ >= 0) {
    ::close(fd_);
  }
  fd_ = fd;
}

namespace sys {
namespace {

Result<UniqueFd> fd_of(long rc) {
  if (rc < 0) {
    return Errno::last();
  }
  return UniqueFd(static_cast<int>(rc));
}

// Longest piece handed to one openat2: below PATH_MAX with room for the terminator.
constexpr std::size_t kMaxPiece = PATH_MAX - 256;

Result<UniqueFd> openat2_beneath(int root, const std::string& path, int flags, mode_t mode) {
  open_how how{};
  how.flags = static_cast<std::uint64_t>(flags | O_CLOEXEC);
  how.mode = (flags & (O_CREAT | __O_TMPFILE)) != 0 ? mode : 0;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  for (;;) {
    const long fd = ::syscall(SYS_openat2, root, path.c_str(), &how, sizeof(how));
    if (fd >= 0 || (errno != EINTR && errno != EAGAIN)) {
      return fd_of(fd);
    }
  }
}

}  // namespace

Result<UniqueFd> open_beneath(int root, std::string_view path, int flags, mode_t mode) {
  if (path.empty()) {
    path = ".";
  }
  UniqueFd step;
  int from = root;
  while (path.size() > kMaxPiece) {
    const std::size_t cut = path.rfind('/', kMaxPiece);
    if (cut == std::string_view::npos) {
      return Errno(ENAMETOOLONG);
    }
    LFS_ASSIGN(step,
               openat2_beneath(from, std::string(path.substr(0, cut)), O_PATH | O_DIRECTORY, 0));
    from = step.get();
    path.remove_prefix(cut + 1);
  }
  return openat2_beneath(from, std::string(path), flags, mode);
}

Result<UniqueFd> open_in_root(int root, const std::string& path, int flags, mode_t mode) {
  struct open_how how {};
  how.flags = static_cast<std::uint64_t>(flags | O_CLOEXEC);
  how.mode = (flags & O_CREAT) != 0 ? mode : 0;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  for (;;) {
    const long fd = ::syscall(SYS_openat2, root, path.c_str(), &how, sizeof(how));
    // EAGAIN: something was renamed meanwhile, and the kernel cannot tell whether ".." left.
    if (fd >= 0 || (errno != EINTR && errno != EAGAIN)) {
      return fd_of(static_cast<int>(fd));
    }
  }
}

Result<UniqueFd> open_at(At at, int flags, mode_t mode) {
  if (!at.is_self()) {
    for (;;) {
      const int fd = ::openat(at.dir, at.name, flags | O_NOFOLLOW | O_CLOEXEC, mode);
      if (fd >= 0 || errno != EINTR) {
        return fd_of(fd);
      }
    }
  }
  return fd_of(::open(ProcPath(at).c_str(), (flags & ~O_NOFOLLOW) | O_CLOEXEC, mode));
}

Result<UniqueFd> open_path(const std::string& path, int flags, mode_t mode) {
  return fd_of(::open(path.c_str(), flags | O_CLOEXEC, mode));
}

Result<UniqueFd> dup_fd(int fd) { return fd_of(::fcntl(fd, F_DUPFD_CLOEXEC, 3)); }

Result<struct statx> stat_at(At at) {
  struct statx st {};
  const int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | (at.is_self() ? AT_EMPTY_PATH : 0);
  if (::statx(at.dir, at.name, flags, STATX_BASIC_STATS | STATX_BTIME, &st) < 0) {
    return Errno::last();
  }
  return st;
}

Result<std::optional<struct statx>> try_stat_at(At at) {
  auto st = stat_at(at);
  if (st) {
    return std::optional<struct statx>(*st);
  }
  if (is_absence(st.error())) {
    return std::optional<struct statx>();
  }
  return st.error();
}

dev_t device_of(const struct statx& st) { return makedev(st.stx_dev_major, st.stx_dev_minor); }
dev_t rdev_of(const struct statx& st) { return makedev(st.stx_rdev_major, st.stx_rdev_minor); }

Result<struct statvfs> statvfs_fd(int fd) {
  struct statvfs st {};
  if (::fstatvfs(fd, &st) < 0) {
    return Errno::last();
  }
  return st;
}

Result<FsIdentity> fs_identity(int fd) {
  struct statfs st {};
  if (::fstatfs(fd, &st) < 0) {
    return Errno::last();
  }
  std::uint64_t fsid = 0;
  static_assert(sizeof(st.f_fsid) == sizeof(fsid));
  std::memcpy(&fsid, &st.f_fsid, sizeof(fsid));
  return FsIdentity{st.f_type, fsid};
}

Status mkdir_at(At at, mode_t mode) { return status_of(::mkdirat(at.dir, at.name, mode)); }

Status mknod_at(At at, mode_t mode, dev_t rdev) {
  return status_of(::mknodat(at.dir, at.name, mode, rdev));
}

Status symlink_at(std::string_view target, At at) {
  return status_of(::symlinkat(std::string(target).c_str(), at.dir, at.name));
}

Status link_at(At from, At to) {
  if (from.is_self()) {
    return status_of(
        ::linkat(AT_FDCWD, ProcPath(from).c_str(), to.dir, to.name, AT_SYMLINK_FOLLOW));
  }
  return status_of(::linkat(from.dir, from.name, to.dir, to.name, 0));
}

Status unlink_at(At at, UnlinkKind kind) {
  return status_of(::unlinkat(at.dir, at.name, kind == UnlinkKind::Directory ? AT_REMOVEDIR : 0));
}

Status rename_at(At from, At to, unsigned flags) {
  return status_of(::renameat2(from.dir, from.name, to.dir, to.name, flags));
}

Result<std::string> readlink_at(At at) {
  std::string target(PATH_MAX, '\0');
  const ssize_t n = ::readlinkat(at.dir, at.name, target.data(), target.size());
  if (n < 0) {
    return Errno::last();
  }
  target.resize(static_cast<std::size_t>(n));
  return target;
}

Status chown_at(At at, uid_t uid, gid_t gid) {
  return status_of(::fchownat(at.dir, at.name, uid, gid, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH));
}

Status chmod_at(At at, mode_t mode) {
  const int flags = AT_SYMLINK_NOFOLLOW | (at.is_self() ? AT_EMPTY_PATH : 0);
  const long rc = ::syscall(SYS_fchmodat2, at.dir, at.name, mode, flags);
  // Kernels before 6.6 lack the call; some seccomp filters answer EPERM for unknown ones.
  if (rc == 0 || (errno != ENOSYS && errno != EPERM)) {
    return status_of(rc);
  }
  if (at.is_self()) {
    return status_of(::chmod(ProcPath(at).c_str(), mode));
  }
  LFS_ASSIGN(UniqueFd fd, open_at(at, O_PATH));
  return status_of(::chmod(ProcPath(At{fd.get()}).c_str(), mode));
}

Status utimens_at(At at, const struct timespec times[2]) {
  return status_of(::utimensat(at.dir, at.name, times,
                               AT_SYMLINK_NOFOLLOW | (at.is_self() ? AT_EMPTY_PATH : 0)));
}

Result<KeptTimes> KeptTimes::of(int dir) {
  LFS_ASSIGN(const struct statx st, stat_at({dir}));
  KeptTimes kept;
  kept.dir_ = dir;
  kept.times_[0] = {st.stx_atime.tv_sec, st.stx_atime.tv_nsec};
  kept.times_[1] = {st.stx_mtime.tv_sec, st.stx_mtime.tv_nsec};
  return kept;
}

Status KeptTimes::restore() const { return utimens_at({dir_}, times_); }

Status truncate_fd(int fd, off_t size) { return status_of(::ftruncate(fd, size)); }
Status fsync_fd(int fd) { return status_of(::fsync(fd)); }
Status fdatasync_fd(int fd) { return status_of(::fdatasync(fd)); }
Status syncfs_fd(int fd) { return status_of(::syncfs(fd)); }

namespace {
constexpr const char* kCapabilityXattr = "security.capability";
}  // namespace

Result<KeptCapability> KeptCapability::of(int fd) {
  KeptCapability kept;
  kept.fd_ = fd;
  LFS_ASSIGN(kept.value_, get_xattr({fd}, kCapabilityXattr));
  return kept;
}

Status KeptCapability::restore() const {
  return value_ ? set_xattr({fd_}, kCapabilityXattr, *value_) : Status();
}

namespace {

Result<bool> try_lock(int fd, int how) {
  if (::flock(fd, how | LOCK_NB) == 0) {
    return true;
  }
  if (errno == EWOULDBLOCK) {
    return false;
  }
  return Errno::last();
}

Status lock(int fd, int how) {
  int done = -1;
  do {
    done = ::flock(fd, how);
  } while (done != 0 && errno == EINTR);
  return done == 0 ? Status() : Status(Errno::last());
}

}  // namespace

Status lock_exclusive(int fd) { return lock(fd, LOCK_EX); }
Status lock_shared(int fd) { return lock(fd, LOCK_SH); }
Result<bool> try_lock_exclusive(int fd) { return try_lock(fd, LOCK_EX); }
Result<bool> try_lock_shared(int fd) { return try_lock(fd, LOCK_SH); }

// Not cleared: of a small directory the kernel fills a page.
DirReader::DirReader(int fd)
    : fd_(fd), buffer_(std::make_unique_for_overwrite<char[]>(kBufferBytes)) {}

Result<std::optional<DirEntry>> DirReader::next() {
  for (;;) {
    if (position_ >= filled_) {
      const ssize_t n = ::getdents64(fd_, buffer_.get(), kBufferBytes);
      if (n < 0) {
        return Errno::last();
      }
      if (n == 0) {
        return std::optional<DirEntry>();
      }
      filled_ = static_cast<std::size_t>(n);
      position_ = 0;
    }
    // getdents64 aligns each record for this struct.
    const auto* record = reinterpret_cast<const dirent64*>(buffer_.get() + position_);
    position_ += record->d_reclen;
    const std::string_view name(record->d_name);
    if (name == "." || name == "..") {
      continue;
    }
    return std::optional<DirEntry>(DirEntry{name, record->d_ino, record->d_type});
  }
}

Result<UniqueFd> clone_tree_read_only(int fd) {
  LFS_ASSIGN(UniqueFd tree, fd_of(::open_tree(fd, "",
                                              OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC |
                                                  static_cast<unsigned>(AT_EMPTY_PATH))));
  struct mount_attr attr {};
  attr.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOATIME;
  attr.attr_clr = MOUNT_ATTR__ATIME;
  LFS_TRY(status_of(::mount_setattr(tree.get(), "", AT_EMPTY_PATH, &attr, sizeof(attr))));
  return tree;
}

Status check_writable_directory(int dir) {
  return status_of(::faccessat(dir, ".", W_OK | X_OK, AT_EACCESS));
}

Status reserve_descriptors(std::size_t count) {
  LFS_ASSIGN(const UniqueFd any, open_path("/", O_PATH | O_DIRECTORY));
  const UniqueFd last(::fcntl(any.get(), F_DUPFD_CLOEXEC, static_cast<int>(count) - 1));
  return last ? Status{} : Errno::last();
}

Status unshare_fs_attributes() { return status_of(::unshare(CLONE_FS)); }
void set_thread_umask(mode_t mask) { ::umask(mask); }

}  // namespace sys
}  // namespace layerfs
