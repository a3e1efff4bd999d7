// A root that is given as an image: its layers from a store that all runs share, and what
// its config says of the command.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "tools/common/problem.h"
#include "tools/run/run_config.h"

namespace layerfs::run {

// Where images are unpacked if no store is named: /var/lib/layerfs/store for root, else
// layerfs/store in $XDG_DATA_HOME or ~/.local/share.
Outcome<std::string> default_store();

// Has `layerfs unpack` put the layers of config.image into config.store, those that are not
// there yet, and applies what it tells. What it could not keep of a layer is told on stderr.
Outcome<void> use_image(RunConfig& config);

// `unpacked`: the document of `layerfs unpack --json`. The command line's words win over the
// image's. A failure if neither has a command.
Outcome<void> apply_image(RunConfig& config, const nlohmann::json& unpacked);

}  // namespace layerfs::run
