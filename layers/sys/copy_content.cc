#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "layers/sys/bulk.h"

namespace layerfs::sys {
namespace {

constexpr std::size_t kCopyBufferBytes = 1 << 20;
// Up to this size a clone is no quicker than a copy.
constexpr std::uint64_t kSmallBytes = 64 << 10;
constexpr std::uint64_t kBlockBytes = 512;  // of stx_blocks (statx(2))

// Copies [start, end). `use_range` turns false for good once copy_file_range says
// that it cannot serve this pair of files.
Status copy_segment(int from, int to, off_t start, off_t end, bool& use_range,
                    std::vector<char>& buffer) {
  while (start < end && use_range) {
    const auto n = copy_range(from, start, to, start, static_cast<std::size_t>(end - start));
    if (n && *n > 0) {
      start += static_cast<off_t>(*n);
    } else if (n) {
      // End of file, or a filesystem that answers 0 for files it cannot copy: reading
      // tells the two apart.
      use_range = false;
    } else if (n.error().value() != EINTR) {
      const int e = n.error().value();
      if (e != EXDEV && e != EINVAL && e != EOPNOTSUPP && e != ENOSYS && e != EBADF) {
        return Errno(e);
      }
      use_range = false;
    }
  }
  if (start < end) {
    buffer.resize(kCopyBufferBytes);
  }
  while (start < end) {
    const std::size_t want =
        std::min<std::size_t>(buffer.size(), static_cast<std::size_t>(end - start));
    const ssize_t n = ::pread(from, buffer.data(), want, start);
    if (n < 0) {
      if (errno == EINTR) {
        continue;
      }
      return Errno::last();
    }
    if (n == 0) {
      // The source is shorter than its own size said: a copy of it would be wrong data.
      return Errno(EIO);
    }
    LFS_TRY(write_fully(to, {buffer.data(), static_cast<std::size_t>(n)},
                        static_cast<std::uint64_t>(start)));
    start += n;
  }
  return {};
}

bool is_on_tmpfs(int fd) {
  struct statfs where {};
  return ::fstatfs(fd, &where) == 0 && where.f_type == TMPFS_MAGIC;
}

}  // namespace

Result<std::size_t> copy_range(int from, off_t from_offset, int to, off_t to_offset,
                               std::size_t size) {
  const ssize_t n = ::copy_file_range(from, &from_offset, to, &to_offset, size, 0);
  if (n < 0) {
    return Errno::last();
  }
  return static_cast<std::size_t>(n);
}

Result<std::uint64_t> copy_content(int from, int to, std::uint64_t size) {
  if (size == 0) {
    return std::uint64_t{0};
  }
  LFS_ASSIGN(const struct statx st, stat_at({from}));
  if (st.stx_size < size) {
    // Beyond its end, SEEK_DATA would call it a hole: a copy padded with zeros.
    return Errno(EIO);
  }
  if (size > kSmallBytes && ::ioctl(to, FICLONE, from) == 0) {
    return std::uint64_t{0};
  }
  const off_t end = static_cast<off_t>(size);
  bool use_range = true;
  std::vector<char> buffer;
  if (st.stx_blocks * kBlockBytes >= st.stx_size && (size <= kSmallBytes || is_on_tmpfs(from))) {
    // No holes; tmpfs would seek them page by page. Where files can share blocks,
    // copy_file_range(2) has these share them too. Of a longer file blocks may be allocated and
    // never written, which seeking leaves out.
    LFS_TRY(copy_segment(from, to, 0, end, use_range, buffer));
    return size;
  }
  LFS_TRY(truncate_fd(to, end));
  std::uint64_t copied = 0;
  off_t position = 0;
  while (position < end) {
    off_t data = ::lseek(from, position, SEEK_DATA);
    off_t hole = end;
    if (data < 0 && errno == ENXIO) {
      break;  // only a hole up to the end
    }
    if (data < 0) {
      data = position;  // no SEEK_DATA here: everything is data
    } else {
      hole = ::lseek(from, data, SEEK_HOLE);
      if (hole < 0) {
        return Errno::last();
      }
      hole = std::min(hole, end);
    }
    if (data >= end) {
      break;
    }
    LFS_TRY(copy_segment(from, to, data, hole, use_range, buffer));
    copied += static_cast<std::uint64_t>(hole - data);
    position = hole;
  }
  return copied;
}

Result<std::size_t> read_fully(int fd, char* data, std::size_t size, off_t offset) {
  std::size_t have = 0;
  while (have < size) {
    const ssize_t n = ::pread(fd, data + have, size - have, offset + static_cast<off_t>(have));
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0) {
      return Errno::last();
    }
    if (n == 0) {
      break;
    }
    have += static_cast<std::size_t>(n);
  }
  return have;
}

Result<bool> same_content(int a, int b) {
  constexpr std::size_t kPieceBytes = 256 * 1024;
  std::vector<char> left(kPieceBytes);
  std::vector<char> right(kPieceBytes);
  for (off_t offset = 0;; offset += static_cast<off_t>(kPieceBytes)) {
    LFS_ASSIGN(const std::size_t n, read_fully(a, left.data(), kPieceBytes, offset));
    LFS_ASSIGN(const std::size_t m, read_fully(b, right.data(), kPieceBytes, offset));
    if (n != m || std::memcmp(left.data(), right.data(), n) != 0) {
      return false;
    }
    if (n < kPieceBytes) {
      return true;
    }
  }
}

}  // namespace layerfs::sys
