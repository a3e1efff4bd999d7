// System calls that return Result. The only place below tools/ with raw file
// system calls. Nothing here knows of layers.
#pragma once

#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "layers/sys/result.h"
#include "layers/sys/unique_fd.h"

namespace layerfs::sys {

// One object: `name` (a single component, never followed if it is a symlink) in the
// directory `dir`; an empty name is the object `dir` itself, which may be O_PATH.
struct At {
  int dir;
  const char* name = "";
  bool is_self() const { return *name == '\0'; }
};

// "Beneath" calls: `path` is relative, and the kernel refuses (EXDEV, ELOOP) every
// symlink, magic link and "..", so a hostile layer cannot lead outside it
// (openat2(2): RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS).
// Paths longer than PATH_MAX are descended in pieces. "" is `root` itself, reopened.
Result<UniqueFd> open_beneath(int root, std::string_view path, int flags, mode_t mode = 0);

// As a process sees `path` whose root directory is `root`: symlinks and ".." are followed
// but never lead outside (RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS). O_CLOEXEC is added.
Result<UniqueFd> open_in_root(int root, const std::string& path, int flags, mode_t mode = 0);

// One component, with O_NOFOLLOW and O_CLOEXEC added. An O_PATH object (empty name)
// is reopened through /proc/self/fd.
Result<UniqueFd> open_at(At at, int flags, mode_t mode = 0);
// Host path, symlinks followed; for layer roots given by the user.
Result<UniqueFd> open_path(const std::string& path, int flags, mode_t mode = 0);
Result<UniqueFd> dup_fd(int fd);

// statx(2) with STATX_BASIC_STATS | STATX_BTIME, no automount, no symlink followed.
Result<struct statx> stat_at(At at);
// As above, but absence is a value.
Result<std::optional<struct statx>> try_stat_at(At at);
dev_t device_of(const struct statx& st);
dev_t rdev_of(const struct statx& st);
Result<struct statvfs> statvfs_fd(int fd);
// statfs(2) f_type and f_fsid of the filesystem that holds `fd`.
struct FsIdentity {
  long type;
  std::uint64_t fsid;
};
Result<FsIdentity> fs_identity(int fd);

Status mkdir_at(At at, mode_t mode);
Status mknod_at(At at, mode_t mode, dev_t rdev);
Status symlink_at(std::string_view target, At at);
// `from` may be an O_PATH or O_TMPFILE descriptor (empty name).
Status link_at(At from, At to);
enum class UnlinkKind { File, Directory };
Status unlink_at(At at, UnlinkKind kind);
// renameat2(2).
Status rename_at(At from, At to, unsigned flags = 0);
Result<std::string> readlink_at(At at);

Status chown_at(At at, uid_t uid, gid_t gid);
// Never follows a symlink; EOPNOTSUPP on one.
Status chmod_at(At at, mode_t mode);
Status utimens_at(At at, const struct timespec times[2]);
// The times of a directory that is about to get an entry which, to its readers, it has
// had all along.
class KeptTimes {
 public:
  static Result<KeptTimes> of(int dir);
  Status restore() const;

 private:
  int dir_ = -1;
  struct timespec times_[2] = {};
};
Status truncate_fd(int fd, off_t size);
Status fsync_fd(int fd);
Status fdatasync_fd(int fd);
Status syncfs_fd(int fd);

// nullopt: no such attribute, or the filesystem has none. Any other failure is an
// error: the caller must not take it for "not set".
Result<std::optional<std::string>> get_xattr(At at, const char* name);
Status set_xattr(At at, const char* name, std::string_view value, int flags = 0);
// Removing one that is not there is success.
Status remove_xattr(At at, const char* name);
// Whether an object of this type may have user. attributes (xattr(7)).
bool takes_user_xattrs(mode_t mode);
// Names in the kernel's order; empty where the filesystem has no attributes.
Result<std::vector<std::string>> list_xattrs(At at);
// security.capability of a file that is about to be written, which drops it, for a
// reason that is not a user's writing.
class KeptCapability {
 public:
  static Result<KeptCapability> of(int fd);
  Status restore() const;

 private:
  int fd_ = -1;
  std::optional<std::string> value_;
};

// Locks the whole file or directory for this open file description, without waiting.
// false: somebody else has it.
Result<bool> try_lock_exclusive(int fd);
// As above, beside others that lock so.
Result<bool> try_lock_shared(int fd);
// Waits for it.
Status lock_exclusive(int fd);
Status lock_shared(int fd);

struct DirEntry {
  std::string_view name;
  std::uint64_t ino;
  unsigned char type;  // DT_*; DT_UNKNOWN where the filesystem does not say
};

// Reads a directory in the kernel's order, "." and ".." left out.
class DirReader {
 public:
  // `fd` must be readable (not O_PATH); its position is used.
  explicit DirReader(int fd);
  // nullopt at the end. The name is valid until the next call.
  Result<std::optional<DirEntry>> next();

 private:
  static constexpr std::size_t kBufferBytes = 64 * 1024;
  int fd_;
  std::unique_ptr<char[]> buffer_;
  std::size_t filled_ = 0;
  std::size_t position_ = 0;
};

// Copies the first `size` bytes of `from` to `to`, which has nothing but holes, or all of it: by
// reflink, else copy_file_range over the data segments only (holes stay holes), else read
// and write. `to` is as long afterwards, or as it was, or as `from`. Returns the bytes of data
// copied (0 for a reflink). EIO: `from` has fewer.
Result<std::uint64_t> copy_content(int from, int to, std::uint64_t size);

// pread(2) until `size` bytes or the end of the file; returns the bytes read.
Result<std::size_t> read_fully(int fd, char* data, std::size_t size, off_t offset);

// Whether two files have the same bytes. Compared byte by byte rather than by hashes: both
// are read to the first difference at most, and no collision can hide one.
Result<bool> same_content(int a, int b);

// copy_file_range(2); returns the bytes copied, which may be fewer than `size`.
Result<std::size_t> copy_range(int from, off_t from_offset, int to, off_t to_offset,
                               std::size_t size);

// A private, detached clone of the mount that holds `fd`, rooted at `fd`, read-only
// and noatime: a file opened through it for writing is EROFS whatever its mode, and
// reading it changes no atime. Needs CAP_SYS_ADMIN over the mount namespace.
Result<UniqueFd> clone_tree_read_only(int fd);

// Whether the process may add and remove names in the directory (effective ids).
Status check_writable_directory(int dir);

// Removes `at` and all below it, one filesystem only, following nothing.
Status remove_tree(At at);

// As above, for what nobody can name any more: an inode flag (immutable, append-only) that forbids
// it is cleared first.
Status remove_nameless(At at);

// Makes room for descriptors below `count` in the process's table. In a process of several
// threads each doubling of that table waits for a grace period of RCU, milliseconds (Linux,
// fs/file.c, expand_fdtable), so it is to be done while there is one.
Status reserve_descriptors(std::size_t count);

// The calling thread's view of umask and working directory becomes its own, so that
// umask can follow each request's.
Status unshare_fs_attributes();
// Only valid after unshare_fs_attributes() in this thread.
void set_thread_umask(mode_t mask);

}  // namespace layerfs::sys
