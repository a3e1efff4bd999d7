#include "tests/fault/calls.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <linux/seccomp.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <string_view>

#ifndef SYS_setxattrat
#define SYS_setxattrat 463
#define SYS_getxattrat 464
#define SYS_listxattrat 465
#define SYS_removexattrat 466
#endif
#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif

namespace layerfs::fault {
namespace {

// What the call's arguments say of where it acts.
enum class Target {
  At,          // a directory and a path
  Path,        // a path
  Descriptor,  // the descriptor in `argument`
};

struct Known {
  long number;
  const char* name;
  Kind kind;
  Target target;
  unsigned argument;  // of the path, or of the descriptor
};

constexpr std::array kKnown = {
    Known{SYS_openat, "openat", Kind::Open, Target::At, 1},
    Known{SYS_openat2, "openat2", Kind::Open, Target::At, 1},
    Known{SYS_statx, "statx", Kind::Look, Target::At, 1},
    Known{SYS_getdents64, "getdents64", Kind::Look, Target::Descriptor, 0},
    Known{SYS_readlinkat, "readlinkat", Kind::Look, Target::At, 1},
    Known{SYS_fgetxattr, "fgetxattr", Kind::Look, Target::Descriptor, 0},
    Known{SYS_getxattrat, "getxattrat", Kind::Look, Target::At, 1},
    Known{SYS_flistxattr, "flistxattr", Kind::Look, Target::Descriptor, 0},
    Known{SYS_listxattrat, "listxattrat", Kind::Look, Target::At, 1},
    Known{SYS_pread64, "pread64", Kind::Read, Target::Descriptor, 0},
    Known{SYS_preadv, "preadv", Kind::Read, Target::Descriptor, 0},
    Known{SYS_mkdirat, "mkdirat", Kind::Name, Target::At, 1},
    Known{SYS_mknodat, "mknodat", Kind::Name, Target::At, 1},
    Known{SYS_symlinkat, "symlinkat", Kind::Name, Target::At, 2},
    Known{SYS_linkat, "linkat", Kind::Name, Target::At, 3},
    Known{SYS_unlinkat, "unlinkat", Kind::Name, Target::At, 1},
    Known{SYS_renameat, "renameat", Kind::Name, Target::At, 3},
    Known{SYS_renameat2, "renameat2", Kind::Name, Target::At, 3},
    Known{SYS_fsetxattr, "fsetxattr", Kind::Mark, Target::Descriptor, 0},
    Known{SYS_setxattrat, "setxattrat", Kind::Mark, Target::At, 1},
    Known{SYS_fremovexattr, "fremovexattr", Kind::Mark, Target::Descriptor, 0},
    Known{SYS_removexattrat, "removexattrat", Kind::Mark, Target::At, 1},
    Known{SYS_fchmod, "fchmod", Kind::Mark, Target::Descriptor, 0},
    Known{SYS_fchmodat, "fchmodat", Kind::Mark, Target::At, 1},
    Known{SYS_fchmodat2, "fchmodat2", Kind::Mark, Target::At, 1},
    Known{SYS_fchown, "fchown", Kind::Mark, Target::Descriptor, 0},
    Known{SYS_fchownat, "fchownat", Kind::Mark, Target::At, 1},
    Known{SYS_utimensat, "utimensat", Kind::Mark, Target::At, 1},
    Known{SYS_ioctl, "ioctl", Kind::Mark, Target::Descriptor, 0},
    Known{SYS_ftruncate, "ftruncate", Kind::Write, Target::Descriptor, 0},
    Known{SYS_fallocate, "fallocate", Kind::Write, Target::Descriptor, 0},
    Known{SYS_write, "write", Kind::Write, Target::Descriptor, 0},
    Known{SYS_writev, "writev", Kind::Write, Target::Descriptor, 0},
    Known{SYS_pwrite64, "pwrite64", Kind::Write, Target::Descriptor, 0},
    Known{SYS_pwritev, "pwritev", Kind::Write, Target::Descriptor, 0},
    Known{SYS_pwritev2, "pwritev2", Kind::Write, Target::Descriptor, 0},
    Known{SYS_copy_file_range, "copy_file_range", Kind::Write, Target::Descriptor, 2},
    Known{SYS_sendfile, "sendfile", Kind::Write, Target::Descriptor, 0},
    Known{SYS_splice, "splice", Kind::Write, Target::Descriptor, 2},
    Known{SYS_fsync, "fsync", Kind::Sync, Target::Descriptor, 0},
    Known{SYS_fdatasync, "fdatasync", Kind::Sync, Target::Descriptor, 0},
    Known{SYS_syncfs, "syncfs", Kind::Sync, Target::Descriptor, 0},
#ifdef __x86_64__
    // What glibc makes of calls by path; the other machines have none of these.
    Known{SYS_open, "open", Kind::Open, Target::Path, 0},
    Known{SYS_newfstatat, "newfstatat", Kind::Look, Target::At, 1},
    Known{SYS_readlink, "readlink", Kind::Look, Target::Path, 0},
    Known{SYS_mkdir, "mkdir", Kind::Name, Target::Path, 0},
    Known{SYS_unlink, "unlink", Kind::Name, Target::Path, 0},
    Known{SYS_rename, "rename", Kind::Name, Target::Path, 1},
    Known{SYS_chmod, "chmod", Kind::Mark, Target::Path, 0},
#endif
    Known{SYS_getxattr, "getxattr", Kind::Look, Target::Path, 0},
    Known{SYS_lgetxattr, "lgetxattr", Kind::Look, Target::Path, 0},
    Known{SYS_listxattr, "listxattr", Kind::Look, Target::Path, 0},
    Known{SYS_llistxattr, "llistxattr", Kind::Look, Target::Path, 0},
    Known{SYS_setxattr, "setxattr", Kind::Mark, Target::Path, 0},
    Known{SYS_lsetxattr, "lsetxattr", Kind::Mark, Target::Path, 0},
    Known{SYS_removexattr, "removexattr", Kind::Mark, Target::Path, 0},
    Known{SYS_lremovexattr, "lremovexattr", Kind::Mark, Target::Path, 0},
};

const Known* known(std::uint64_t number) {
  const auto* const found = std::find_if(
      kKnown.begin(), kKnown.end(),
      [number](const Known& entry) { return static_cast<std::uint64_t>(entry.number) == number; });
  return found == kKnown.end() ? nullptr : found;
}

std::size_t read_memory(pid_t tid, std::uint64_t address, void* data, std::size_t size) {
  iovec local{data, size};
  iovec remote{reinterpret_cast<void*>(address), size};
  const ssize_t n = ::process_vm_readv(tid, &local, 1, &remote, 1, 0);
  return n < 0 ? 0 : static_cast<std::size_t>(n);
}

std::string read_text(pid_t tid, std::uint64_t address) {
  std::string text;
  // In pieces that do not cross a page, for the next may not be there.
  while (text.size() < 4096) {
    std::array<char, 256> piece{};
    const std::size_t n = read_memory(tid, address, piece.data(), 256 - address % 256);
    const std::string_view part(piece.data(), n);
    text += part.substr(0, part.find('\0'));
    if (n == 0 || part.find('\0') != std::string_view::npos) {
      break;
    }
    address += n;
  }
  return text;
}

std::string descriptor_path(pid_t tid, std::uint64_t fd) {
  const std::string link =
      "/proc/" + std::to_string(tid) + "/fd/" + std::to_string(static_cast<int>(fd));
  std::array<char, 4096> target{};
  const ssize_t n = ::readlink(link.c_str(), target.data(), target.size());
  return n < 0 ? "" : std::string(target.data(), static_cast<std::size_t>(n));
}

bool is_creating(std::uint64_t flags) {
  return (flags & (O_CREAT | O_TRUNC)) != 0 || (flags & O_TMPFILE) == O_TMPFILE;
}

std::uint64_t open_flags(pid_t tid, const Call& call) {
  if (call.number == SYS_openat2) {
    struct open_how how {};
    read_memory(tid, call.arguments[2], &how, sizeof how.flags);
    return how.flags;
  }
  return call.arguments[call.number == SYS_openat ? 2 : 1];
}

bool is_wanted_ioctl(std::uint64_t request) {
  return request == FICLONE || request == FS_IOC_SETFLAGS;
}

}  // namespace

const std::vector<int>& errors_of(Kind kind) {
  static const std::vector<int> open = {EIO, EMFILE, ENOMEM, ESTALE, EINTR};
  static const std::vector<int> look = {EIO, ENOMEM, ESTALE, EINTR};
  static const std::vector<int> name = {ENOSPC, EIO, EROFS, EDQUOT, ENOMEM, ESTALE, EMFILE, EINTR};
  static const std::vector<int> mark = {ENOSPC, EIO, EROFS, EDQUOT, ENOMEM, ESTALE, EINTR};
  static const std::vector<int> write = {ENOSPC, EIO, EDQUOT, ENOMEM, EINTR};
  static const std::vector<int> sync = {EIO, ENOSPC, EDQUOT, EROFS, EINTR};
  switch (kind) {
    case Kind::Open:
      return open;
    case Kind::Look:
    case Kind::Read:
      return look;
    case Kind::Name:
      return name;
    case Kind::Mark:
      return mark;
    case Kind::Write:
      return write;
    case Kind::Sync:
      return sync;
  }
  return look;
}

std::vector<sock_filter> filter_program() {
  std::vector<sock_filter> program = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))};
  const auto count = static_cast<std::uint8_t>(kKnown.size());
  for (std::uint8_t i = 0; i < count; ++i) {
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
                               static_cast<std::uint32_t>(kKnown[i].number),
                               static_cast<std::uint8_t>(count - i), 0));
  }
  program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE));
  return program;
}

bool classify(pid_t tid, const Call& call, const std::string& base, Kind& kind) {
  const Known* const entry = known(call.number);
  if (entry == nullptr) {
    return false;
  }
  kind = entry->kind;
  if (call.number == SYS_ioctl && !is_wanted_ioctl(call.arguments[1])) {
    return false;
  }
  if (entry->target == Target::Descriptor) {
    const std::string path = descriptor_path(tid, call.arguments[entry->argument]);
    // A file of a detached clone of a layer's mount has a path from that layer's root.
    const bool is_own = path.starts_with(base + "/");
    return changes(kind) ? is_own : is_own || !path.starts_with("/dev/");
  }
  const std::string path = read_text(tid, call.arguments[entry->argument]);
  if (path.starts_with("/") && !path.starts_with(base + "/") &&
      !path.starts_with("/proc/self/fd/")) {
    return false;
  }
  if (kind == Kind::Open && is_creating(open_flags(tid, call))) {
    kind = Kind::Name;
  }
  return true;
}

std::string describe(pid_t tid, const Call& call) {
  const Known* const entry = known(call.number);
  if (entry == nullptr) {
    return "call " + std::to_string(call.number);
  }
  std::string text = entry->name;
  const std::uint64_t argument = call.arguments[entry->argument];
  if (entry->target == Target::Descriptor) {
    return text + " " + descriptor_path(tid, argument);
  }
  if (entry->target == Target::At && entry->argument > 0) {
    const auto dir = static_cast<int>(call.arguments[entry->argument - 1]);
    text += " " + (dir == AT_FDCWD ? std::string()
                                   : descriptor_path(tid, call.arguments[entry->argument - 1]));
  }
  return text + "/" + read_text(tid, argument);
}

}  // namespace layerfs::fault
