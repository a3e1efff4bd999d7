// Answers the reads of the container's /proc files, in a process of its own.
#pragma once

#include <cstdint>

#include "layers/sys/unique_fd.h"
#include "tools/run/procfs/use.h"

namespace layerfs::run {

struct ProcServerStart {
  UniqueFd device;  // /dev/fuse, mounted
  CgroupDirs dirs;
};

// The files of the mount are flat: meminfo, cpuinfo, stat, loadavg, uptime, diskstats, swaps
// and online. Ends when the mount is gone.
[[noreturn]] void serve_proc(ProcServerStart start);

}  // namespace layerfs::run
