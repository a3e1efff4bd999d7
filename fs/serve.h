// The daemon's work: one mount, whose asker waits for a word on a descriptor.
#pragma once

#include "layers/mount_config.h"
#include "layers/sys/unique_fd.h"

namespace layerfs {

// Mounts, and serves until the mount is gone; unless in the foreground in a session of its own.
// `status` gets one line of JSON: {"ok": true, "pid": N, "device": N} once the mount answers, or
// {"ok": false, "message": TEXT}. Returns the exit code: 0, or 1 after a failure, which nothing is
// left of. REQUIRES: one thread, with no signal blocked.
int serve_mount(const MountConfig& config, UniqueFd status);

// What it writes if there is no configuration.
int refuse_to_serve(UniqueFd status, const std::string& message);

}  // namespace layerfs
