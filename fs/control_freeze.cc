#include <nlohmann/json.hpp>

#include "fs/control_commands.h"
#include "fs/fuse_freeze.h"
#include "layers/sys/syscalls.h"

namespace layerfs {
namespace {

using nlohmann::json;

std::string command_of(const std::string& request) {
  const json parsed = json::parse(request, nullptr, false);
  return parsed.is_object() ? parsed.value("cmd", "") : "";
}

std::string refusal(Errno error, const std::string& message) {
  return json{{"error", strerrorname_np(error.value())}, {"message", message}}.dump();
}

// Until the client has enough.
void talk(Freezer& freezer, ControlPeer& peer) {
  const auto deadline = std::chrono::steady_clock::now() + kLongestFreeze;
  const auto begun = freezer.begin();
  if (!begun) {
    peer.send(refusal(Errno(EBUSY), begun.error().message));
    return;
  }
  json hold = json::array();
  for (const std::string& path : begun->hold) {
    hold.push_back(bytes_to_json(path));
  }
  peer.send(json{{"write_back", begun->write_back}, {"hold", hold}}.dump());
  while (const auto line = peer.receive(deadline)) {
    const std::string command = command_of(*line);
    if (command == "thaw") {
      freezer.thaw();
      peer.send(R"({"ok":true})");
      return;
    }
    if (command != "close") {
      peer.send(refusal(Errno(EINVAL), "unknown command"));
      return;
    }
    const auto closed = freezer.close();
    if (!closed) {
      peer.send(refusal(Errno(EBUSY), closed.error().message));
      return;
    }
    peer.send(json{{"frozen", *closed}}.dump());
  }
}

}  // namespace

bool is_freeze(const std::string& request) { return command_of(request) == "freeze"; }

std::string freeze_is_taken() {
  return refusal(Errno(EBUSY), "it is held by another commit or diff; try again when that is over");
}

void talk_freeze(const ControlState& state, ControlPeer& peer) {
  ignore(sys::unshare_fs_attributes(), "the mount was refused if it cannot be had");
  Freezer freezer(state.context);
  talk(freezer, peer);
  freezer.thaw();
}

}  // namespace layerfs
