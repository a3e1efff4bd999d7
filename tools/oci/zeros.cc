#include "tools/oci/zeros.h"

#include <algorithm>
#include <cstring>

#include "layers/sys/bulk.h"

namespace layerfs::oci {
namespace {

// Whole runs of zeros of this size become holes.
constexpr std::size_t kHoleBytes = 32 * 1024;

}  // namespace

bool is_zero(std::string_view bytes) {
  return bytes.empty() ||
         (bytes[0] == '\0' && std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

Result<std::uint64_t> write_without_holes(int fd, std::string_view bytes, std::uint64_t offset) {
  std::uint64_t end = 0;
  std::size_t begin = 0;  // of what is to be written
  const auto flush = [&](std::size_t to) -> Status {
    if (to > begin) {
      LFS_TRY(sys::write_fully(fd, bytes.substr(begin, to - begin), offset + begin));
      end = offset + to;
    }
    return {};
  };
  for (std::size_t at = 0; at < bytes.size();) {
    const std::size_t piece =
        std::min<std::size_t>(bytes.size() - at, kHoleBytes - (offset + at) % kHoleBytes);
    if (piece == kHoleBytes && is_zero(bytes.substr(at, piece))) {
      LFS_TRY(flush(at));
      begin = at + piece;
    }
    at += piece;
  }
  LFS_TRY(flush(bytes.size()));
  return end;
}

}  // namespace layerfs::oci
