// From a mount's configuration to opened layers.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "fs/file_system.h"
#include "layers/mount_config.h"

namespace layerfs {

struct OpenedLayers {
  std::unique_ptr<FileSystem> fs;
  std::string mountpoint;  // absolute
  std::string work;        // empty without an upper
  WhiteoutForm form = WhiteoutForm::Overlay;
  XattrNamespace xattrs = XattrNamespace::None;
  bool overrides = false;
  std::size_t descriptor_limit = 0;
  std::vector<FreshWork> fresh;  // to be taken back if the mount fails
};
Result<OpenedLayers, Failure> open_layers(const MountConfig& config);

// Raises the limit of open files as far as the process may; returns the limit.
std::size_t raise_descriptor_limit();

}  // namespace layerfs
