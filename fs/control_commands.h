// What the control socket's commands answer.
#pragma once

#include <chrono>
#include <string>

#include "fs/fuse_ops.h"
#include "fs/layer_setup.h"
#include "layers/mount_config.h"

namespace layerfs {

struct ControlState {
  const MountConfig& config;
  const OpenedLayers& layers;
  FuseContext& context;
  unsigned threads;
  std::chrono::steady_clock::time_point started;
};

// `request`: one JSON object with "cmd": stats, which (with "path"), sync or pid. The
// answer is one JSON document; {"error", "message"} where it cannot be given.
std::string run_control_command(const ControlState& state, const std::string& request);

}  // namespace layerfs
