// Whether the kernel passes file data through here.
#pragma once

#include "fs/fuse_ops.h"

namespace layerfs {

// Whether the kernel will pass data through of all these layers, as far as can be told before
// INIT: that needs CAP_SYS_ADMIN in the initial user namespace, and layers that are on no
// stacked filesystem (fs/fuse/backing.c, 6.18). On FUSE it could; but two daemons for each
// first page of a file are not quicker than the page cache.
bool may_pass_through(const LayerStack& layers);

// Tried on a file of the upper, once INIT has been answered. The failure says why not.
Result<void, Failure> check_passthrough(FuseContext& context);

}  // namespace layerfs
