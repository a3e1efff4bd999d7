// How much there is to do, for the bar that shows how much is done.
#pragma once

#include <cstdint>

#include "layers/layer_stack.h"
#include "tools/common/progress.h"

namespace layerfs {

// The bytes in the files of the layers before `end`, about: what is hidden counts too, and
// what cannot be read does not. 0 if nobody is shown it.
std::uint64_t estimate_bytes(const Progress& progress, const LayerStack& stack, LayerIndex end);

}  // namespace layerfs
