#include "tests/model/side_files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csetjmp>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "tests/model/random.h"

namespace layerfs::model {
namespace {

using K = OpKind;

Outcome of(std::int64_t result) {
  return result < 0 ? Outcome{-1, errno, 0} : Outcome{result, 0, 0};
}

sigjmp_buf bus_jump;

void on_bus_error(int /*signal*/) { siglongjmp(bus_jump, 1); }

// A mapping of the part of [offset, offset + length) that the file has.
Outcome with_mapping(int fd, std::int64_t offset, std::int64_t length, int protection,
                     const auto& act) {
  struct stat st {};
  if (::fstat(fd, &st) < 0) {
    return of(-1);
  }
  const std::int64_t end = std::min<std::int64_t>(offset + length, st.st_size);
  if (S_ISREG(st.st_mode) && end <= offset) {
    return {0, 0, 0};
  }
  const std::int64_t page = offset & ~std::int64_t{4095};
  const auto size = static_cast<std::size_t>(std::max<std::int64_t>(end - page, 1));
  void* map = ::mmap(nullptr, size, protection, MAP_SHARED, fd, page);
  if (map == MAP_FAILED) {
    return of(-1);
  }
  struct sigaction action {};
  struct sigaction before {};
  action.sa_handler = on_bus_error;
  Outcome outcome{-1, EFAULT, 1};  // SIGBUS
  ::sigaction(SIGBUS, &action, &before);
  if (sigsetjmp(bus_jump, 1) == 0) {
    outcome = act(static_cast<unsigned char*>(map) + (offset - page),
                  static_cast<std::uint64_t>(end - offset));
    if ((protection & PROT_WRITE) != 0 && ::msync(map, size, MS_SYNC) < 0) {
      outcome = of(-1);
    }
  }
  ::sigaction(SIGBUS, &before, nullptr);
  ::munmap(map, size);
  return outcome;
}

}  // namespace

const char* xattr_name(std::int64_t number) {
  return kXattrNames[static_cast<std::size_t>(number) % kXattrNames.size()];
}

void make_times(const std::array<std::int64_t, 5>& n, std::size_t first, struct timespec* times) {
  const struct timespec given = {n[first + 1], n[first + 2]};
  const struct timespec now = {0, UTIME_NOW};
  const struct timespec omit = {0, UTIME_OMIT};
  switch (n[first]) {
    case 0:
      times[0] = times[1] = given;
      break;
    case 1:
      times[0] = times[1] = now;
      break;
    case 2:
      times[0] = given;
      times[1] = omit;
      break;
    default:
      times[0] = now;
      times[1] = given;
      break;
  }
}

Outcome write_data(int fd, std::int64_t offset, std::int64_t length, std::int64_t fill) {
  std::vector<unsigned char> data(static_cast<std::size_t>(length));
  fill_data(static_cast<std::uint64_t>(fill), 0, data.data(), data.size());
  return of(offset < 0 ? ::write(fd, data.data(), data.size())
                       : ::pwrite(fd, data.data(), data.size(), offset));
}

Outcome read_data(int fd, std::int64_t offset, std::int64_t length) {
  std::string data(static_cast<std::size_t>(length), '\0');
  struct stat st {};
  const bool regular = ::fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
  const ssize_t n = regular ? ::pread(fd, data.data(), data.size(), offset)
                            : ::read(fd, data.data(), data.size());
  return n < 0 ? of(-1) : Outcome{n, 0, digest_of({data.data(), static_cast<std::size_t>(n)})};
}

Outcome copy_range(int from, int to, const Op& op) {
  off_t in = op.n[2];
  off_t out = op.n[3];
  std::int64_t left = op.n[4];
  std::int64_t done = 0;
  while (left > 0) {
    const ssize_t n = ::copy_file_range(from, &in, to, &out, static_cast<std::size_t>(left), 0);
    if (n < 0) {
      return of(-1);
    }
    if (n == 0) {
      break;
    }
    left -= n;
    done += n;
  }
  return {done, 0, 0};
}

Outcome list_xattrs(const char* path) {
  char names[8192];
  const ssize_t length = ::llistxattr(path, names, sizeof names);
  if (length < 0) {
    return of(-1);
  }
  std::vector<std::string> sorted;
  for (ssize_t at = 0; at < length; at += static_cast<ssize_t>(std::strlen(names + at)) + 1) {
    sorted.emplace_back(names + at);
  }
  std::sort(sorted.begin(), sorted.end());
  std::string all;
  for (const std::string& name : sorted) {
    all += name + '\n';
  }
  return {static_cast<std::int64_t>(sorted.size()), 0, digest_of(all)};
}

Outcome run_on_file(const Op& op, int fd) {
  const auto& n = op.n;
  switch (op.kind) {
    case K::LinkSlot: {
      char self[64];
      std::snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
      return of(::linkat(AT_FDCWD, self, AT_FDCWD, op.p.c_str(), AT_SYMLINK_FOLLOW));
    }
    case K::PRead:
      return read_data(fd, n[1], n[2]);
    case K::PWrite:
      return write_data(fd, n[1], n[2], n[3]);
    case K::WriteSlot:
      return write_data(fd, -1, n[1], n[2]);
    case K::FTruncate:
      return of(::ftruncate(fd, n[1]));
    case K::FAllocate:
      return of(::fallocate(fd, static_cast<int>(n[1]), n[2], n[3]));
    case K::FStat: {
      struct stat st {};
      return ::fstat(fd, &st) < 0 ? of(-1) : Outcome{S_ISREG(st.st_mode) ? st.st_size : 0, 0, 0};
    }
    case K::FSync:
      return of(n[1] != 0 ? ::fdatasync(fd) : ::fsync(fd));
    case K::Seek: {
      struct stat st {};
      if (::fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) {
        return {};  // a directory's positions are its filesystem's affair
      }
      const auto result = of(::lseek(fd, n[2], static_cast<int>(n[1])));
      // Where data and holes end is the filesystem's affair, within what SeekScan checks.
      const bool extents = n[1] == SEEK_DATA || n[1] == SEEK_HOLE;
      if (extents) {
        ::lseek(fd, 0, SEEK_SET);
      }
      const bool all_data_is_allowed = n[1] == SEEK_DATA && n[2] >= 0 && n[2] < st.st_size;
      return extents && (result.error == 0 || all_data_is_allowed) ? Outcome{} : result;
    }
    case K::MapWrite:
      return with_mapping(fd, n[1], n[2], PROT_READ | PROT_WRITE,
                          [&](unsigned char* map, std::uint64_t length) {
                            fill_data(static_cast<std::uint64_t>(n[3]), 0, map, length);
                            return Outcome{static_cast<std::int64_t>(length), 0, 0};
                          });
    case K::MapRead:
      return with_mapping(fd, n[1], n[2], PROT_READ, [](unsigned char* map, std::uint64_t length) {
        return Outcome{static_cast<std::int64_t>(length), 0,
                       digest_of({reinterpret_cast<const char*>(map), length})};
      });
    case K::FChmod:
      return of(::fchmod(fd, static_cast<mode_t>(n[1])));
    case K::FChown:
      return of(::fchown(fd, static_cast<uid_t>(n[1]), static_cast<gid_t>(n[2])));
    case K::FUtimens: {
      struct timespec times[2];
      make_times(n, 1, times);
      return of(::futimens(fd, times));
    }
    case K::FSetXattr: {
      const std::string value = xattr_value(n[1], n[2], n[3]);
      return of(::fsetxattr(fd, xattr_name(n[1]), value.data(), value.size(), 0));
    }
    default:
      return {-1, ENOSYS, 0};
  }
}

}  // namespace layerfs::model
