// What the control socket's commands answer.
#pragma once

#include <chrono>
#include <string>

#include "fs/control_socket.h"
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

// "freeze" begins a conversation: the layers stay as they are from {"frozen":true} until
// "thaw", until the client hangs up, or for kLongestFreeze.
//
//   freeze  -> {"write_back": bool, "hold": [PATH...]}
//   close   -> {"frozen": bool}; false: write the mount back and say it again
//   thaw    -> {"ok": true}
inline constexpr std::chrono::seconds kLongestFreeze{60};
bool is_freeze(const std::string& request);
std::string freeze_is_taken();
void talk_freeze(const ControlState& state, ControlPeer& peer);

}  // namespace layerfs
