// A limit of the bandwidth of a container's interface.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "tools/common/problem.h"

namespace layerfs::run {

// The arguments of tc(8) that hold `interface` to `rate` bits a second: what goes out waits,
// what comes in too fast is dropped.
std::vector<std::vector<std::string>> rate_commands(const std::string& interface,
                                                    std::uint64_t rate);

// Every interface but loopback of the network namespace of the process `pid`. Kernels
// without the action "police" cannot hold what comes in.
Outcome<void> limit_rate(pid_t pid, std::uint64_t rate);

}  // namespace layerfs::run
