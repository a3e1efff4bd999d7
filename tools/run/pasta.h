// A way out of the container's network namespace for users: the program pasta.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "tools/common/problem.h"
#include "tools/run/run_config.h"

namespace layerfs::run {

// What pasta is started with for the network namespace of `pid`. `as_root`: by the
// machine's own root.
std::vector<std::string> pasta_command(const std::string& program, pid_t pid,
                                       const std::vector<Port>& ports, bool as_root);

// Returns when the network is there; what stays behind is a child of the caller.
Outcome<void> start_pasta(pid_t pid, const std::vector<Port>& ports);

}  // namespace layerfs::run
