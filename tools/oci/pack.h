// What one merged tree has over another, as the file of a layer.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "layers/merged_view.h"
#include "tools/oci/compression.h"
#include "tools/oci/layer_output.h"
#include "tools/oci/layer_writer.h"

namespace layerfs::oci {

struct PackOptions {
  LayerWriterOptions writer;
  Compression compression;
  unsigned threads = 1;  // of compression
  // Deletions in a replaced directory are told one by one rather than by an opaque mark.
  bool explicit_whiteouts = false;
  // The trees are read as fast as can be, into a file, and compressed after this was called.
  std::function<Fallible<void>()> when_read;
};

struct Packed {
  LayerInfo info;
  std::uint64_t entries;  // 0: nothing differs; the file then is that of an empty layer
  LossList losses;
  std::optional<std::int64_t> newest;  // of the times in it
};

// The bytes written depend on the trees and the options alone.
Fallible<Packed> pack_layer(const MergedView& before, const MergedView& now, ByteSink& to,
                            const PackOptions& options);

// The ids that the kernel shows in place of those that the process' user namespace does not
// map, for LayerWriterOptions; nullopt where all are mapped.
Fallible<std::optional<std::uint32_t>> unmapped_id(const char* map_file, const char* overflow_file);

}  // namespace layerfs::oci
