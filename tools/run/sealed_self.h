// The launcher's program, out of the container's reach: what runs is a sealed copy in
// memory, so that /proc/PID/exe of our processes never leads to the file on disk.
#pragma once

#include <string>

#include "tools/common/problem.h"

namespace layerfs::run {

// Starts the program again from a sealed copy, unless that is what runs already.
Outcome<void> run_from_sealed_copy(char** argv);

// Another of our programs, by where this one was started from.
Outcome<std::string> find_own_program(const std::string& name);

}  // namespace layerfs::run
