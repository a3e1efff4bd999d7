// Extended attributes of what an At names, by the calls that take a descriptor and a name
// (Linux 6.13) or, before them, by path through /proc.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstdint>

#include "layers/sys/call.h"
#include "layers/sys/syscalls.h"

#ifndef SYS_setxattrat
#define SYS_setxattrat 463
#define SYS_getxattrat 464
#define SYS_listxattrat 465
#define SYS_removexattrat 466
#endif

namespace layerfs::sys {
namespace {

// struct xattr_args of <linux/xattr.h>, which Debian 12 does not have.
struct XattrArguments {
  std::uint64_t value;
  std::uint32_t size;
  std::uint32_t flags;
};

// A filter of system calls may refuse what it does not know with any error; so what counts
// is that a call without a name gives the answer that only the kernel gives to it.
bool kernel_has_xattrat() {
  static const bool has =
      ::syscall(SYS_removexattrat, AT_FDCWD, "/", 0U, nullptr) < 0 && errno == EFAULT;
  return has;
}

// Asks, in the cheapest way that holds for this object:
//   a name in a directory: `at(dir, name, flags)`, else `path(text, follow = false)`
//   an open file: `descriptor()`
//   an O_PATH descriptor (to which that is EBADF): of a directory as its own ".", else by path
template <class AtCall, class Descriptor, class Path>
long ask(At at, const AtCall& at_call, const Descriptor& descriptor, const Path& path) {
  if (at.is_self()) {
    const long n = descriptor();
    if (n >= 0 || errno != EBADF) {
      return n;
    }
  }
  if (kernel_has_xattrat()) {
    const long n = at.is_self() ? at_call(at.dir, ".", 0U)
                                : at_call(at.dir, at.name, unsigned{AT_SYMLINK_NOFOLLOW});
    if (n >= 0 || !at.is_self() || errno != ENOTDIR) {
      return n;
    }
  }
  const ProcPath text(at);
  if (!text.fits()) {
    errno = ENAMETOOLONG;
    return -1;
  }
  return path(text.c_str(), at.is_self());
}

// Fills `buffer` by `call(data, size)`, growing it while that says ERANGE.
template <class Call>
Status fill(std::string& buffer, const Call& call) {
  const std::size_t step = buffer.size();
  for (;;) {
    const long n = call(buffer.data(), buffer.size());
    if (n >= 0) {
      buffer.resize(static_cast<std::size_t>(n));
      return {};
    }
    if (errno != ERANGE) {
      return Errno::last();
    }
    const long wanted = call(nullptr, 0);
    if (wanted < 0) {
      return Errno::last();
    }
    buffer.resize(static_cast<std::size_t>(wanted) + step);
  }
}

}  // namespace

Result<std::optional<std::string>> get_xattr(At at, const char* name) {
  std::string value(256, '\0');
  const Status got = fill(value, [&](char* data, std::size_t size) {
    return ask(
        at,
        [&](int dir, const char* of, unsigned flags) {
          const XattrArguments arguments{reinterpret_cast<std::uintptr_t>(data),
                                         static_cast<std::uint32_t>(size), 0};
          return ::syscall(SYS_getxattrat, dir, of, flags, name, &arguments, sizeof arguments);
        },
        [&] { return ::fgetxattr(at.dir, name, data, size); },
        [&](const char* path, bool follow) {
          return (follow ? ::getxattr : ::lgetxattr)(path, name, data, size);
        });
  });
  if (got) {
    return std::optional<std::string>(std::move(value));
  }
  if (is_no_attribute(got.error())) {
    return std::optional<std::string>();
  }
  return got.error();
}

Status set_xattr(At at, const char* name, std::string_view value, int flags) {
  return status_of(ask(
      at,
      [&](int dir, const char* of, unsigned at_flags) {
        const XattrArguments arguments{reinterpret_cast<std::uintptr_t>(value.data()),
                                       static_cast<std::uint32_t>(value.size()),
                                       static_cast<std::uint32_t>(flags)};
        return ::syscall(SYS_setxattrat, dir, of, at_flags, name, &arguments, sizeof arguments);
      },
      [&] { return ::fsetxattr(at.dir, name, value.data(), value.size(), flags); },
      [&](const char* path, bool follow) {
        return (follow ? ::setxattr : ::lsetxattr)(path, name, value.data(), value.size(), flags);
      }));
}

Status remove_xattr(At at, const char* name) {
  const Status removed = status_of(ask(
      at,
      [&](int dir, const char* of, unsigned flags) {
        return ::syscall(SYS_removexattrat, dir, of, flags, name);
      },
      [&] { return ::fremovexattr(at.dir, name); },
      [&](const char* path, bool follow) {
        return (follow ? ::removexattr : ::lremovexattr)(path, name);
      }));
  return removed || !is_no_attribute(removed.error()) ? removed : Status();
}

bool takes_user_xattrs(mode_t mode) { return S_ISREG(mode) || S_ISDIR(mode); }

Result<std::vector<std::string>> list_xattrs(At at) {
  std::string names(1024, '\0');
  const Status listed = fill(names, [&](char* data, std::size_t size) {
    return ask(
        at,
        [&](int dir, const char* of, unsigned flags) {
          return ::syscall(SYS_listxattrat, dir, of, flags, data, size);
        },
        [&] { return ::flistxattr(at.dir, data, size); },
        [&](const char* path, bool follow) {
          return (follow ? ::listxattr : ::llistxattr)(path, data, size);
        });
  });
  if (!listed) {
    return listed.error().value() == EOPNOTSUPP
               ? Result<std::vector<std::string>>(std::vector<std::string>())
               : listed.error();
  }
  std::vector<std::string> out;
  for (std::size_t i = 0; i < names.size();) {
    out.emplace_back(names.c_str() + i);
    i += out.back().size() + 1;
  }
  return out;
}

}  // namespace layerfs::sys
