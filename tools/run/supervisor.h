// The process that owns a container: it has the mount, starts the first process, waits,
// reports, and takes everything away again, whatever ends first.
#pragma once

#include <string>

#include "tools/run/channel.h"
#include "tools/run/id_map.h"
#include "tools/run/places.h"
#include "tools/run/run_config.h"
#include "tools/run/seccomp.h"

namespace layerfs::run {

struct SupervisorStart {
  const RunConfig& config;
  std::string daemon;  // layerfsd
  Places places;
  SeccompChoice seccomp;
  Channel channel;  // to who started it
};

// In a process of its own. Its end is told by Report.
[[noreturn]] void run_supervisor(SupervisorStart start);

}  // namespace layerfs::run
