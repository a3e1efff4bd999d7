#include "tests/testlib/layer_dirs.h"

namespace layerfs::testing {

LayerDirs::LayerDirs(std::size_t lowers) : lowers_(lowers) {
  for (std::size_t i = 0; i < lowers; ++i) {
    make_dirs(lower(i));
  }
  for (const std::string& dir : {upper(), init(), mountpoint()}) {
    make_dirs(dir);
  }
}

MountConfig LayerDirs::config() const {
  MountConfig config;
  for (std::size_t i = 0; i < lowers_; ++i) {
    config.lowers.push_back(lower(i));
  }
  config.upper = upper();
  config.work = work();
  config.mountpoint = mountpoint();
  return config;
}

}  // namespace layerfs::testing
