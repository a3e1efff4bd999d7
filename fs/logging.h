#pragma once

#include <string>

#include "layers/mount_config.h"
#include "layers/sys/result.h"

namespace layerfs {

// To the configured file; else to stderr in the foreground and to syslog in the
// background.
Result<void, Failure> start_logging(const MountConfig& config);
void log_error(const std::string& message);

}  // namespace layerfs
