// The calling process's children, those that were left to it included.
#pragma once

#include <chrono>

namespace layerfs::run {

// Waits until all have ended; after `patience` they are asked to (SIGTERM), and after as
// long again made to.
void end_children(std::chrono::milliseconds patience);

// Kills them at once, until there are none.
void kill_children();

}  // namespace layerfs::run
