// The program layerfs-overlay, which container engines run in place of fuse-overlayfs.
#pragma once

#include <functional>
#include <span>
#include <string>

#include "layers/mount_config.h"
#include "tools/common/problem.h"
#include "tools/common/streams.h"

namespace layerfs {

// Mounts and returns the exit code; the second tells the user of something.
using StartDaemon =
    std::function<Outcome<int>(const MountConfig&, std::function<void(const std::string&)>)>;

// `program`: what it was called by, for messages. Returns the exit code: 0, or 1 after a message.
int overlay_program(const std::string& program, std::span<const std::string> arguments,
                    const Streams& streams, const StartDaemon& start_daemon);

}  // namespace layerfs
