// A layer's blob as a directory: read, decompressed and hashed in one thread, written to the
// filesystem in another.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tools/oci/byte_source.h"
#include "tools/oci/layer_applier.h"

namespace layerfs::oci {

struct UnpackInput {
  std::unique_ptr<ByteSource> blob;  // as stored, perhaps compressed
  std::string shown;
  std::optional<Digest> diff_id;  // what it must be
  // Told of bytes of the blob, in the reading thread, and of entries, with 0 bytes, in the
  // caller's; an error ends the work.
  std::function<Fallible<void>(std::uint64_t bytes)> progress;
};

struct UnpackedLayer {
  Digest diff_id;
  std::uint64_t bytes = 0;  // of file content
  std::uint64_t entries = 0;
  bool has_implied = false;  // it depends on the layers below (ApplyOptions)
  LossList losses;
};

// Into the empty directory `root`. What is there after a failure is of no use.
Fallible<UnpackedLayer> unpack_layer(UnpackInput input, int root, ApplyOptions options);

}  // namespace layerfs::oci
