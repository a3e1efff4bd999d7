// Several layers as one directory that means the same, whatever is below them.
#pragma once

#include <string>
#include <vector>

#include "layers/merged_view.h"
#include "tools/oci/layer_applier.h"
#include "tools/oci/layer_writer.h"

namespace layerfs::oci {

struct SquashOptions {
  MarkWishes marks;
  std::optional<bool> override_stat;  // nullopt: where owners cannot be set
  LayerWriterOptions writer;
  bool strict = false;  // what is lost is a failure
};

struct Squashed {
  std::uint64_t entries = 0;
  LossList losses;
};

// Makes the directory `out`, which must not be there, or be empty; nothing is left of it
// after a failure. The deletions and opaque marks of the layers are kept.
Fallible<Squashed> squash_layers(const MergedView& view, const std::string& out,
                                 const SquashOptions& options);

}  // namespace layerfs::oci
