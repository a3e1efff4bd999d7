// st_ino as shown: the same before and after copy-up and across mounts of the same
// layers, distinct over all of them.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

#include "layers/layer_stack.h"

namespace layerfs {

// Inode numbers of the bottom layer's filesystem are shown as they are; those of each
// other filesystem carry its number, counted from the bottom layer up so that a layer
// added on top changes none, in the high bits. Thread-safe.
class InoMap {
 public:
  explicit InoMap(const LayerStack& stack);

  std::uint64_t shown(dev_t device, std::uint64_t ino);
  // Of an object recorded by f_fsid; nullopt if no layer is on that filesystem.
  std::optional<std::uint64_t> shown_by_fsid(std::uint64_t fsid, std::uint64_t ino);
  // f_fsid of the filesystem; 0 if unknown.
  std::uint64_t fsid_of(dev_t device) const;

 private:
  struct Filesystem {
    dev_t device;
    std::uint64_t fsid;
  };
  static std::uint64_t combine(std::size_t filesystem, std::uint64_t ino);

  mutable std::mutex mutex_;
  std::vector<Filesystem> filesystems_;
};

}  // namespace layerfs
