#include "tests/model/side.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "tests/model/side_files.h"

namespace layerfs::model {
namespace {

using K = OpKind;

// Raw calls: only this thread, and no glibc bookkeeping.
void become(int id, unsigned mask) {
  ::umask(mask);
  if (id != 0) {
    ::syscall(SYS_setresgid, -1, id, -1);
    ::syscall(SYS_setresuid, -1, id, -1);
  }
}

void become_root(int id) {
  if (id != 0) {
    ::syscall(SYS_setresuid, -1, 0, -1);
    ::syscall(SYS_setresgid, -1, 0, -1);
  }
  ::umask(0);
}

Outcome of(std::int64_t result) {
  return result < 0 ? Outcome{-1, errno, 0} : Outcome{result, 0, 0};
}

// A symlink must not lead out of the tree: outside, the two sides are not alike.
int open_beneath(const std::string& path, std::int64_t flags, std::int64_t mode) {
  struct open_how how {};
  how.flags = static_cast<std::uint64_t>(flags) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  how.mode =
      (flags & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY))) != 0 ? static_cast<std::uint64_t>(mode) : 0;
  how.resolve = RESOLVE_BENEATH;
  // EAGAIN: a rename somewhere in the system raced with a "..".
  for (int tries = 0;; ++tries) {
    const long fd = ::syscall(SYS_openat2, AT_FDCWD, path.c_str(), &how, sizeof how);
    if (fd >= 0 || errno != EAGAIN || tries == 100) {
      return static_cast<int>(fd);
    }
  }
}

Outcome with_open(const std::string& path, std::int64_t flags, std::int64_t mode, const auto& act) {
  const int fd = open_beneath(path, flags, mode);
  if (fd < 0) {
    return of(-1);
  }
  const Outcome outcome = act(fd);
  ::close(fd);
  return outcome;
}

// Depth first, as rm -rf does it: names are removed while the listing is being read.
std::int64_t remove_tree(int parent, const std::string& name) {
  if (::unlinkat(parent, name.c_str(), 0) == 0) {
    return 1;
  }
  if (errno != EISDIR && errno != EPERM) {
    return -1;
  }
  const int dir = ::openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (dir < 0) {
    return -1;
  }
  std::vector<ListedName> names;
  int error = list_directory(dir, names) < 0 ? errno : 0;
  // In one order on both sides, and on after a failure, so that what is left is the same.
  std::sort(names.begin(), names.end(),
            [](const ListedName& a, const ListedName& b) { return a.name < b.name; });
  std::int64_t count = 0;
  for (const ListedName& entry : names) {
    if (entry.name != "." && entry.name != "..") {
      const std::int64_t removed = remove_tree(dir, entry.name);
      error = removed < 0 ? errno : error;
      count += std::max<std::int64_t>(removed, 0);
    }
  }
  ::close(dir);
  if (error == 0 && ::unlinkat(parent, name.c_str(), AT_REMOVEDIR) == 0) {
    return count + 1;
  }
  errno = error != 0 ? error : errno;
  return -1;
}

void parse_entries(const char* buffer, long bytes, std::vector<ListedName>& out) {
  // struct linux_dirent64: ino 8, off 8, reclen 2, type 1, name.
  for (long at = 0; at < bytes;) {
    std::uint64_t ino = 0;
    std::uint16_t length = 0;
    std::memcpy(&ino, buffer + at, sizeof ino);
    std::memcpy(&length, buffer + at + 16, sizeof length);
    out.push_back({buffer + at + 19, ino, static_cast<unsigned char>(buffer[at + 18])});
    at += length;
  }
}

}  // namespace

std::uint64_t digest_of(std::string_view bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

std::string to_text(const Outcome& outcome) {
  if (outcome.error != 0) {
    const char* name = ::strerrorname_np(outcome.error);
    return std::string("-1 ") + (name != nullptr ? name : "unknown errno");
  }
  std::string text = std::to_string(outcome.value);
  if (outcome.digest != 0) {
    text += " (digest " + std::to_string(outcome.digest) + ")";
  }
  return text;
}

int list_directory(int dir_fd, std::vector<ListedName>& out) {
  char buffer[16384];
  for (;;) {
    const long n = ::syscall(SYS_getdents64, dir_fd, buffer, sizeof buffer);
    if (n <= 0) {
      return static_cast<int>(n);
    }
    parse_entries(buffer, n, out);
  }
}

bool Side::attach(const std::string& root) {
  root_ = ::open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  return root_ >= 0;
}

void Side::detach() {
  close_all();
  if (root_ >= 0) {
    ::close(root_);
    root_ = -1;
  }
  if (::chdir("/") < 0) {
    return;
  }
}

void Side::close_all() {
  const auto shut = [](auto& fds) {
    for (int& fd : fds) {
      if (fd >= 0) {
        ::close(fd);
      }
      fd = -1;
    }
  };
  shut(files_);
  shut(dirs_);
}

Outcome Side::run(const Op& op) {
  if (::fchdir(root_) < 0) {
    return of(-1);
  }
  become(op.as, op.mask);
  Outcome outcome;
  const OpForm& form = form_of(op.kind);
  if (op.kind == K::Open || op.kind == K::TmpFile) {
    outcome = open_slot(op);
  } else if (op.kind >= K::OpenDir && op.kind <= K::CloseDir) {
    outcome = run_dir(op);
  } else if (op.kind == K::LinkSlot || !form.p) {
    const int fd = file(op.n[0]);
    if (fd < 0) {
      outcome = {-1, EBADF, 0};
    } else if (op.kind == K::Close) {
      outcome = of(::close(fd));
      files_[index(op.n[0], kFileSlots)] = -1;
    } else if (op.kind == K::CopyRange) {
      const int to = file(op.n[1]);
      outcome = to < 0 ? Outcome{-1, EBADF, 0} : copy_range(fd, to, op);
    } else {
      outcome = run_file(op, fd);
    }
  } else {
    outcome = run_path(op);
  }
  become_root(op.as);
  return outcome;
}

Outcome Side::open_slot(const Op& op) {
  int& slot = files_[index(op.n[0], kFileSlots)];
  if (slot >= 0) {
    ::close(slot);
    slot = -1;
  }
  const std::int64_t extra = op.kind == K::TmpFile ? O_TMPFILE : 0;
  slot = open_beneath(op.p, op.n[1] | extra, op.n[2]);
  return slot < 0 ? of(-1) : Outcome{};
}

Outcome Side::run_dir(const Op& op) {
  int& slot = dirs_[index(op.n[0], kDirSlots)];
  if (op.kind == K::OpenDir) {
    if (slot >= 0) {
      ::close(slot);
    }
    slot = open_beneath(op.p, O_RDONLY | O_DIRECTORY, 0);
    return slot < 0 ? of(-1) : Outcome{};
  }
  if (slot < 0) {
    return {-1, EBADF, 0};
  }
  switch (op.kind) {
    case K::ReadSome:
      return read_some(slot, op.n[1]);
    case K::RewindDir:
      return of(::lseek(slot, 0, SEEK_SET));
    default: {
      const Outcome outcome = of(::close(slot));
      slot = -1;
      return outcome;
    }
  }
}

Outcome Side::read_some(int fd, std::int64_t bytes) {
  std::vector<char> buffer(static_cast<std::size_t>(bytes));
  last_read_.clear();
  const long n = ::syscall(SYS_getdents64, fd, buffer.data(), buffer.size());
  if (n < 0) {
    return of(n);
  }
  parse_entries(buffer.data(), n, last_read_);
  return {};  // how much fits is the filesystem's affair
}

Outcome Side::run_file(const Op& op, int fd) { return run_on_file(op, fd); }

Outcome Side::run_path(const Op& op) {
  const char* p = op.p.c_str();
  const char* q = op.q.c_str();
  const auto& n = op.n;
  switch (op.kind) {
    case K::Create:
      return with_open(op.p, O_CREAT | O_WRONLY | n[0], n[1], [](int) { return Outcome{}; });
    case K::Write:
      return with_open(op.p, O_WRONLY | n[3], 0,
                       [&](int fd) { return write_data(fd, n[0], n[1], n[2]); });
    case K::Append:
      return with_open(op.p, O_WRONLY | O_APPEND, 0,
                       [&](int fd) { return write_data(fd, -1, n[0], n[1]); });
    case K::Read:
      return with_open(op.p, O_RDONLY, 0, [&](int fd) { return read_data(fd, n[0], n[1]); });
    case K::Truncate:
      return of(::truncate(p, n[0]));
    case K::Unlink:
      return of(::unlink(p));
    case K::Rmdir:
      return of(::rmdir(p));
    case K::Mkdir:
      return of(::mkdir(p, static_cast<mode_t>(n[0])));
    case K::Symlink:
      return of(::symlink(q, p));
    case K::Readlink: {
      char target[4096];
      const ssize_t length = ::readlink(p, target, sizeof target);
      return length < 0 ? of(-1)
                        : Outcome{length, 0, digest_of({target, static_cast<std::size_t>(length)})};
    }
    case K::Link:
      return of(::linkat(AT_FDCWD, p, AT_FDCWD, q, static_cast<int>(n[0])));
    case K::Mknod:
      return of(::mknod(p, static_cast<mode_t>(n[0]), static_cast<dev_t>(n[1])));
    case K::Rename:
      return of(::syscall(SYS_renameat2, AT_FDCWD, p, AT_FDCWD, q, n[0]));
    case K::Chmod:
      return of(::chmod(p, static_cast<mode_t>(n[0])));
    case K::Chown:
      return of(::lchown(p, static_cast<uid_t>(n[0]), static_cast<gid_t>(n[1])));
    case K::Utimens: {
      struct timespec times[2];
      make_times(op.n, 0, times);
      return of(::utimensat(AT_FDCWD, p, times, AT_SYMLINK_NOFOLLOW));
    }
    case K::SetXattr: {
      const std::string value = xattr_value(n[0], n[1], n[2]);
      return of(
          ::lsetxattr(p, xattr_name(n[0]), value.data(), value.size(), static_cast<int>(n[3])));
    }
    case K::GetXattr: {
      char value[4096];
      const ssize_t length = ::lgetxattr(p, xattr_name(n[0]), value, sizeof value);
      return length < 0 ? of(-1)
                        : Outcome{length, 0, digest_of({value, static_cast<std::size_t>(length)})};
    }
    case K::RemoveXattr:
      return of(::lremovexattr(p, xattr_name(n[0])));
    case K::ListXattr:
      return list_xattrs(p);
    case K::Stat: {
      struct stat st {};
      const int result = ::stat(p, &st);
      return result < 0 ? of(-1) : Outcome{0, 0, st.st_mode & S_IFMT};
    }
    case K::Access:
      return of(::faccessat(AT_FDCWD, p, static_cast<int>(n[0]), AT_EACCESS));
    case K::List:
      return with_open(op.p, O_RDONLY | O_DIRECTORY, 0, [](int fd) {
        std::vector<ListedName> names;
        return list_directory(fd, names) < 0
                   ? of(-1)
                   : Outcome{static_cast<std::int64_t>(names.size()), 0, 0};
      });
    case K::Statfs: {
      struct statfs st {};
      return ::statfs(p, &st) < 0 ? of(-1)
                                  : Outcome{0, 0, static_cast<std::uint64_t>(st.f_namelen)};
    }
    case K::SeekScan:
      return {};
    case K::RemoveTree:
      return of(remove_tree(AT_FDCWD, op.p));
    default:
      return {-1, ENOSYS, 0};
  }
}

}  // namespace layerfs::model
