#include "tests/model/compare_content.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

namespace layerfs::model {
namespace {

constexpr std::int64_t kWhole = 256 * 1024;
constexpr std::int64_t kChunk = 128 * 1024;

struct Range {
  std::int64_t start;
  std::int64_t end;
};

std::vector<Range> data_ranges(int fd, std::int64_t size) {
  std::vector<Range> out;
  // The descriptor may be one that operations use: its position is theirs.
  const off_t position = ::lseek(fd, 0, SEEK_CUR);
  std::int64_t at = 0;
  while (at < size) {
    const std::int64_t data = ::lseek(fd, at, SEEK_DATA);
    if (data < 0) {
      if (errno != ENXIO) {
        out.push_back({at, size});
      }
      break;
    }
    std::int64_t hole = ::lseek(fd, data, SEEK_HOLE);
    hole = hole <= data ? size : std::min(hole, size);
    out.push_back({data, hole});
    at = hole;
  }
  ::lseek(fd, position, SEEK_SET);
  return out;
}

std::int64_t read_at(int fd, unsigned char* out, std::int64_t length, std::int64_t offset) {
  std::int64_t done = 0;
  while (done < length) {
    const ssize_t n =
        ::pread(fd, out + done, static_cast<std::size_t>(length - done), offset + done);
    if (n <= 0) {
      return n < 0 ? -errno : done;
    }
    done += n;
  }
  return done;
}

Verdict compare_range(const std::string& what, int oracle_fd, int mount_fd, Range range) {
  std::vector<unsigned char> oracle(
      static_cast<std::size_t>(std::min(kChunk, range.end - range.start)));
  std::vector<unsigned char> mount(oracle.size());
  for (std::int64_t at = range.start; at < range.end; at += kChunk) {
    const std::int64_t length = std::min(kChunk, range.end - at);
    const std::int64_t expected = read_at(oracle_fd, oracle.data(), length, at);
    const std::int64_t got = read_at(mount_fd, mount.data(), length, at);
    if (expected != got) {
      return Difference{"content", what + ": read of " + std::to_string(length) + " at " +
                                       std::to_string(at) + " expected " +
                                       std::to_string(expected) + ", got " + std::to_string(got)};
    }
    for (std::int64_t i = 0; i < got; ++i) {
      const auto index = static_cast<std::size_t>(i);
      if (oracle[index] != mount[index]) {
        return Difference{"content", what + ": byte " + std::to_string(at + i) + " expected " +
                                         std::to_string(oracle[index]) + ", got " +
                                         std::to_string(mount[index])};
      }
    }
  }
  return std::nullopt;
}

}  // namespace

Verdict compare_content(const std::string& what, int oracle_fd, int mount_fd, std::int64_t size) {
  // One byte more than the oracle has: the mount must end there too.
  if (size <= kWhole) {
    return compare_range(what, oracle_fd, mount_fd, {0, size + 1});
  }
  std::vector<Range> ranges = data_ranges(oracle_fd, size);
  // The mount may call everything data: of such a range only the ends are looked at.
  for (const Range& range : data_ranges(mount_fd, size)) {
    const std::int64_t length = std::min(kWhole, range.end - range.start);
    ranges.push_back({range.start, range.start + length});
    ranges.push_back({range.end - length, range.end});
  }
  for (std::int64_t i = 0; i < 8; ++i) {
    const std::int64_t at = size / 8 * i;
    ranges.push_back({at, std::min(at + 4096, size)});
  }
  ranges.push_back({size - 4096, size + 1});
  // Overlaps cost, they do not matter; only equal ranges are worth dropping.
  const auto less = [](const Range& a, const Range& b) {
    return a.start != b.start ? a.start < b.start : a.end < b.end;
  };
  std::sort(ranges.begin(), ranges.end(), less);
  std::int64_t done = 0;
  for (Range range : ranges) {
    range.start = std::max(range.start, done);
    if (range.start < range.end) {
      if (Verdict verdict = compare_range(what, oracle_fd, mount_fd, range)) {
        return verdict;
      }
      done = range.end;
    }
  }
  return std::nullopt;
}

Verdict compare_holes(const std::string& what, int oracle_fd, int mount_fd, std::int64_t size) {
  std::int64_t at = 0;
  const std::vector<Range> data = data_ranges(oracle_fd, size);
  while (at < size) {
    const std::int64_t hole = ::lseek(mount_fd, at, SEEK_HOLE);
    if (hole < at) {
      return Difference{"SEEK_HOLE", what + ": from " + std::to_string(at) + " gives " +
                                         std::to_string(hole) + " " + ::strerrorname_np(errno)};
    }
    if (hole >= size) {
      break;
    }
    std::int64_t next = ::lseek(mount_fd, hole, SEEK_DATA);
    if (next < 0 && errno != ENXIO) {
      return Difference{"SEEK_DATA", what + ": from " + std::to_string(hole) + " fails with " +
                                         ::strerrorname_np(errno)};
    }
    if (next >= 0 && next < hole) {
      return Difference{"SEEK_DATA", what + ": from " + std::to_string(hole) + " goes back to " +
                                         std::to_string(next)};
    }
    next = next < 0 || next > size ? size : next;
    std::vector<unsigned char> bytes;
    for (const Range& range : data) {
      const std::int64_t start = std::max(range.start, hole);
      const std::int64_t end = std::min(range.end, next);
      if (start >= end) {
        continue;
      }
      bytes.resize(static_cast<std::size_t>(end - start));
      const std::int64_t n = read_at(oracle_fd, bytes.data(), end - start, start);
      for (std::int64_t i = 0; i < n; ++i) {
        if (bytes[static_cast<std::size_t>(i)] != 0) {
          return Difference{"hole hides data", what + ": " + std::to_string(hole) + " to " +
                                                   std::to_string(next) +
                                                   " is called a hole, but byte " +
                                                   std::to_string(start + i) + " is data"};
        }
      }
    }
    if (next == hole) {
      return Difference{"SEEK_HOLE", what + ": data and hole both at " + std::to_string(hole)};
    }
    at = next;
  }
  return std::nullopt;
}

}  // namespace layerfs::model
