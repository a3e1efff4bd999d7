// `layerfs commit --oci` and the like: an image rather than a layer.
#pragma once

#include "tools/common/progress.h"
#include "tools/common/streams.h"
#include "tools/layerfs/commit_options.h"
#include "tools/layerfs/layer_choice.h"
#include "tools/oci/pack.h"

namespace layerfs {

Outcome<void> commit_image(const CommitOptions& options, const OpenLayers& layers,
                           oci::PackOptions pack, Progress& progress, const Streams& streams);

// Prints what a layer could not carry; a failure if there is something and `strict`.
Outcome<void> tell_losses(const std::vector<oci::Loss>& losses, bool strict,
                          const Streams& streams);

}  // namespace layerfs
