#include "tools/oci/byte_sink.h"

#include <algorithm>
#include <cstring>

namespace layerfs::oci {

Fallible<void> BlockSink::write(std::string_view bytes) {
  while (!bytes.empty()) {
    LFS_ASSIGN(const Space to, space());
    const std::size_t size = std::min(to.size, bytes.size());
    std::memcpy(to.data, bytes.data(), size);
    LFS_TRY(filled(size));
    bytes.remove_prefix(size);
  }
  return {};
}

Fallible<void> BlockSink::write_zeros(std::size_t size) {
  while (size > 0) {
    LFS_ASSIGN(const Space to, space());
    const std::size_t piece = std::min(to.size, size);
    std::memset(to.data, 0, piece);
    LFS_TRY(filled(piece));
    size -= piece;
  }
  return {};
}

}  // namespace layerfs::oci
