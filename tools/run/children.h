// The calling process's children, those that were left to it included.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <vector>

namespace layerfs::run {

std::vector<pid_t> children();
// The oldest child of `pid`, or `pid` itself if it has none.
pid_t first_child_of(pid_t pid);

// Waits until all have ended; after `patience` they are asked to (SIGTERM), and after as
// long again made to.
void end_children(std::chrono::milliseconds patience);

// Kills them at once, until there are none.
void kill_children();

}  // namespace layerfs::run
