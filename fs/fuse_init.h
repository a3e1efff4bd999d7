#pragma once

#include "fs/fuse_ops.h"

namespace layerfs {

// Asks for what the session's settings need, and writes into them what was granted.
void negotiate(FuseContext& context, fuse_conn_info* conn);

}  // namespace layerfs
