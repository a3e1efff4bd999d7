// A compressed stream as what it stands for.
#pragma once

#include <memory>

#include "tools/oci/byte_source.h"

namespace layerfs::oci {

// gzip (one member or several), zstd (frames) or neither, as its first bytes tell. What
// follows the compressed data is a failure, and so is an end before its own. At its end it
// has read `from` to the end.
std::unique_ptr<ByteSource> decompress(std::unique_ptr<ByteSource> from, std::string shown);

}  // namespace layerfs::oci
