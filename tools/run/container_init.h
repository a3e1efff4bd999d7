// Process 1 of a container: starts the command, hands signals on to it, and reaps whatever
// is left to it.
#pragma once

#include "tools/run/channel.h"
#include "tools/run/command_process.h"

namespace layerfs::run {

// Says Started or Failed, then Ended; its own end ends the container.
[[noreturn]] void be_init(const Channel& channel, const CommandSetup& command);

}  // namespace layerfs::run
