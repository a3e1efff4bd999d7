// The commands about containers that run (exec, ps, inspect, stats, stop, kill), and doctor.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "tools/common/problem.h"
#include "tools/common/streams.h"

namespace layerfs::run {

// nullopt: `arguments` do not begin with one of their names.
std::optional<int> run_other_command(std::span<const std::string> arguments,
                                     const Streams& streams);

int report(const Problem& problem, const Streams& streams);

}  // namespace layerfs::run
