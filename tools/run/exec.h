// One more command in a container that runs.
#pragma once

#include <string>
#include <vector>

#include "tools/common/problem.h"
#include "tools/common/streams.h"
#include "tools/run/state.h"

namespace layerfs::run {

struct ExecRequest {
  std::vector<std::string> command;
  std::vector<std::string> environment;
  std::string user;     // "": as the container's command
  std::string workdir;  // "": as the container's command
  bool terminal = false;
};

// The command's exit code. It joins all namespaces and the control group of the container
// and has no more rights than the container's own command.
Outcome<int> exec_in_container(const ContainerState& state, const ExecRequest& request,
                               const Streams& streams);

}  // namespace layerfs::run
