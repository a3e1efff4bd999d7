#include "tools/layerfs/estimate.h"

#include <filesystem>

#include "tools/common/interrupt.h"

namespace layerfs {
namespace {

std::uint64_t bytes_below(const std::string& path) {
  namespace fs = std::filesystem;
  std::uint64_t bytes = 0;
  std::error_code error;
  fs::recursive_directory_iterator at(path, fs::directory_options::skip_permission_denied, error);
  while (!error && at != fs::recursive_directory_iterator() && !InterruptGuard::interrupted()) {
    std::error_code unread;
    if (at->is_regular_file(unread) && !at->is_symlink(unread)) {
      const std::uintmax_t size = at->file_size(unread);
      bytes += unread ? 0 : size;
    }
    at.increment(error);
  }
  return bytes;
}

}  // namespace

std::uint64_t estimate_bytes(const Progress& progress, const LayerStack& stack, LayerIndex end) {
  std::uint64_t bytes = 0;
  for (LayerIndex i = 0; progress.is_shown() && i < end; ++i) {
    bytes += bytes_below(stack.at(i).path);
  }
  return bytes;
}

}  // namespace layerfs
