// Whether the kernel passes file data through here.
#pragma once

#include "fs/fuse_ops.h"

namespace layerfs {

// Tried on a file of the upper, once INIT has been answered. The failure says why not.
Result<void, Failure> check_passthrough(FuseContext& context);

}  // namespace layerfs
