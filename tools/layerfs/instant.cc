#include "tools/layerfs/instant.h"

namespace layerfs {

Outcome<void> Instant::begin() {
  if (!is_short()) {
    return {};
  }
  LFS_ASSIGN(frozen_,
             FrozenMount::freeze(*choice_.mount, choice_.mount_path, choice_.uppers.front()));
  return layers_.look_again();
}

Outcome<void> Instant::end() {
  const auto frozen = std::move(frozen_);
  return frozen ? frozen->thaw() : Outcome<void>();
}

}  // namespace layerfs
