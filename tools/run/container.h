// The container's first process: makes the container around itself, then is its init.
#pragma once

#include <string>

#include "tools/run/channel.h"
#include "tools/run/root_setup.h"
#include "tools/run/run_config.h"
#include "tools/run/seccomp.h"

namespace layerfs::run {

struct ContainerStart {
  const RunConfig& config;
  std::string root;  // where the merged layers are mounted
  HostParts parts;
  SeccompChoice seccomp;
  Channel channel;  // to the supervisor
};

// Remembers where the program's arguments lie, which are visible to the container in
// /proc/1/cmdline until the container's first process has wiped them.
void remember_arguments(int argc, char** argv);

// In a process that was cloned into the container's namespaces but for that of mounts, which it
// makes when it has waited for Go and for Mounted: it has what is mounted until then. Says
// Terminal, Started, Failed and Ended.
[[noreturn]] void run_container(ContainerStart start);

}  // namespace layerfs::run
