#pragma once

#include "fs/fuse_ops.h"

namespace layerfs {

// The most of a file that the kernel asks for at once, as also told at the mount (max_read, of
// which libfuse wants both to be the same). It has several requests of it under way; the reader
// goes on with the first while the next is read, and what is copied is in the processor's cache.
inline constexpr unsigned kReadBytes = 256U << 10U;

// Asks for what the session's settings need, and writes into them what was granted.
void negotiate(FuseContext& context, fuse_conn_info* conn);

}  // namespace layerfs
