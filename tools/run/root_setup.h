// The container's own view of files: made inside its mount namespace, before it has a
// process of its own.
#pragma once

#include <string>
#include <vector>

#include "layers/sys/unique_fd.h"
#include "tools/common/problem.h"
#include "tools/run/id_map.h"
#include "tools/run/procfs/proc_files.h"
#include "tools/run/run_config.h"

namespace layerfs::run {

struct DeviceNode {
  std::string name;  // below /dev
  UniqueFd mount;    // a detached copy of the host's node
};

struct PreparedVolume {
  Volume volume;
  UniqueFd mount;  // a detached copy of the source; none for a tmpfs
};

// What must be looked up on the host before the container can no longer see it.
struct HostParts {
  std::vector<DeviceNode> devices;
  std::vector<PreparedVolume> volumes;
  std::vector<ProcFile> proc_files;
  std::string tty_group;  // the gid of devpts, if it is mapped
};

// Checks every device node to be what its name says. A missing source of a volume is an
// error that names it.
Outcome<HostParts> prepare_host_parts(const RunConfig& config, const IdMaps& maps);

// The mount points of the volumes in the merged root `root` (a descriptor), and the working
// directory that an image promises, made where they are missing.
Outcome<void> make_mount_points(int root, const RunConfig& config, const HostParts& parts);

// Turns the calling process's mount namespace into the container's and its working
// directory into "/". `root`: where the merged layers are mounted.
Outcome<void> enter_root(const RunConfig& config, const std::string& root, HostParts& parts);

// After everything that still writes below /: masked and read-only places, then the root.
Outcome<void> close_places(const RunConfig& config);

}  // namespace layerfs::run
