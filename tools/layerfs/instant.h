// The layers of a choice as they are at one instant: a mount is frozen while they are read.
#pragma once

#include <memory>

#include "tools/common/frozen_mount.h"
#include "tools/layerfs/layer_choice.h"

namespace layerfs {

class Instant {
 public:
  // Both outlive it.
  Instant(const LayerChoice& choice, OpenLayers& layers) : choice_(choice), layers_(layers) {}

  // Of layers that are not mounted nothing changes anyway.
  bool is_short() const { return choice_.mount.has_value(); }
  Outcome<void> begin();
  // A failure: what was read since may not be of one instant.
  Outcome<void> end();

 private:
  const LayerChoice& choice_;
  OpenLayers& layers_;
  std::unique_ptr<FrozenMount> frozen_;
};

}  // namespace layerfs
