// What the user started: it prepares a container, starts its supervisor, and stands between
// it and the user's terminal and signals until the end.
#pragma once

#include "tools/common/problem.h"
#include "tools/common/streams.h"
#include "tools/run/run_config.h"

namespace layerfs::run {

// The exit code.
Outcome<int> launch(RunConfig config, const Streams& streams);

}  // namespace layerfs::run
