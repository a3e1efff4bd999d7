// The directories of one union under a temporary directory, and the configuration that
// mounts them.
#pragma once

#include <cstddef>
#include <string>

#include "layers/mount_config.h"
#include "tests/testlib/files.h"

namespace layerfs::testing {

class LayerDirs {
 public:
  // Makes `lowers` empty lowers, an upper, an init layer and a mount point.
  explicit LayerDirs(std::size_t lowers = 1);

  std::string lower(std::size_t i = 0) const { return dir_.at("l" + std::to_string(i)); }
  std::string upper() const { return dir_.at("u"); }
  std::string init() const { return dir_.at("i"); }
  std::string work() const { return dir_.at("w"); }
  std::string mountpoint() const { return dir_.at("m"); }
  const std::string& base() const { return dir_.path(); }

  // All lowers, topmost first, and the upper; no init layer unless it is added.
  MountConfig config() const;

 private:
  TempDir dir_;
  std::size_t lowers_;
};

}  // namespace layerfs::testing
