// `layerfs commit --oci` and the like: an image rather than a layer.
#pragma once

#include "tools/common/progress.h"
#include "tools/common/streams.h"
#include "tools/layerfs/commit_options.h"
#include "tools/layerfs/instant.h"
#include "tools/layerfs/layer_choice.h"
#include "tools/oci/pack.h"

namespace layerfs {

Outcome<void> commit_image(const CommitOptions& options, const OpenLayers& layers, Instant& instant,
                           oci::PackOptions pack, Progress& progress, const Streams& streams);

// The packing ends the instant as soon as it has read all.
void read_shortly(oci::PackOptions& pack, Instant& instant);

// Prints what a layer could not carry; a failure if there is something and `strict`.
Outcome<void> judge_losses(const oci::LossList& losses, bool strict, const Streams& streams);

}  // namespace layerfs
