// The launcher's program, out of the container's reach: /proc/PID/exe of our processes never
// leads to a file that can be written. As root of the machine the program runs from a
// read-only mount of its own, which no mount namespace has and so nobody can make writable;
// else from a sealed copy in memory (memfd_create(2)), which takes 2 ms longer.
#pragma once

#include <string>

#include "tools/common/problem.h"

namespace layerfs::run {

// Starts the program again in that way, unless it runs so already.
Outcome<void> run_sealed(char** argv);

// Another of our programs, by where this one was started from.
Outcome<std::string> find_own_program(const std::string& name);

}  // namespace layerfs::run
