// Opening what a layer has, to read it, without a trace in the layer.
#pragma once

#include <string_view>

#include "layers/sys/syscalls.h"

namespace layerfs::sys {

// As open_beneath and open_at; access times stay where this process may ask for that
// (O_NOATIME, open(2): the owner, or CAP_FOWNER over it).
Result<UniqueFd> open_quietly_beneath(int root, std::string_view path, int flags);
Result<UniqueFd> open_quietly_at(At at, int flags);

}  // namespace layerfs::sys
