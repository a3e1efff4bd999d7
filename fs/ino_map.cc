#include "fs/ino_map.h"

#include <xxhash.h>

#include <algorithm>

namespace layerfs {
namespace {

constexpr unsigned kInoBits = 48;
constexpr std::uint64_t kInoMask = (std::uint64_t{1} << kInoBits) - 1;
// Filesystems with a number of their own; the top bit marks numbers made by hashing.
constexpr std::size_t kMaxNumbered = std::size_t{1} << 15U;
constexpr std::uint64_t kHashedBit = std::uint64_t{1} << 63U;

}  // namespace

InoMap::InoMap(const LayerStack& stack) {
  for (LayerIndex i = stack.size(); i-- > 0;) {
    const Layer& layer = stack.at(i);
    const bool known = std::any_of(filesystems_.begin(), filesystems_.end(),
                                   [&](const Filesystem& fs) { return fs.device == layer.device; });
    if (!known) {
      filesystems_.push_back({layer.device, layer.fsid});
    }
  }
}

std::uint64_t InoMap::combine(std::size_t filesystem, std::uint64_t ino) {
  if (ino <= kInoMask && filesystem < kMaxNumbered) {
    return static_cast<std::uint64_t>(filesystem) << kInoBits | ino;
  }
  // Numbers too large to carry the filesystem's (some network filesystems).
  const std::uint64_t words[2] = {filesystem, ino};
  return XXH3_64bits(words, sizeof(words)) | kHashedBit;
}

std::uint64_t InoMap::shown(dev_t device, std::uint64_t ino) {
  const std::lock_guard lock(mutex_);
  for (std::size_t i = 0; i < filesystems_.size(); ++i) {
    if (filesystems_[i].device == device) {
      return combine(i, ino);
    }
  }
  // A mount or subvolume inside a layer.
  filesystems_.push_back({device, 0});
  return combine(filesystems_.size() - 1, ino);
}

std::optional<std::uint64_t> InoMap::shown_by_fsid(std::uint64_t fsid, std::uint64_t ino) {
  const std::lock_guard lock(mutex_);
  for (std::size_t i = 0; i < filesystems_.size(); ++i) {
    if (fsid != 0 && filesystems_[i].fsid == fsid) {
      return combine(i, ino);
    }
  }
  return std::nullopt;
}

std::uint64_t InoMap::fsid_of(dev_t device) const {
  const std::lock_guard lock(mutex_);
  for (const Filesystem& fs : filesystems_) {
    if (fs.device == device) {
      return fs.fsid;
    }
  }
  return 0;
}

}  // namespace layerfs
