// Questions to the daemon behind a mount, over its abstract socket: one line of JSON
// there, one document back. The address follows from the device number of the mount, so
// the filesystem itself is never asked.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>

#include "layers/sys/unique_fd.h"
#include "tools/common/mount_table.h"
#include "tools/common/problem.h"

namespace layerfs {

// The name after the NUL byte, e.g. "layerfs/0:52".
std::string control_socket_name(unsigned major, unsigned minor);

struct ControlReply {
  std::string text;  // the document as it came, without the final newline
  pid_t server = 0;  // the process that listens, as this process numbers it; 0 if unknown
};

struct ControlRequest {
  std::string line;  // without the newline
  std::chrono::milliseconds patience = std::chrono::seconds(30);
};

// Asks the daemon of `mount`. The answer is believed only if the server runs as root, as
// this user, or as the user who made the mount: abstract names can be taken by anybody.
// A failure names the mount point and says whether the daemon is gone, of somebody else,
// silent, or reachable only from another network namespace.
Outcome<ControlReply> ask_daemon(const MountEntry& mount, const ControlRequest& request);

// As above, and the answer must be a JSON object.
Outcome<nlohmann::json> ask_daemon_json(const MountEntry& mount, const ControlRequest& request);

// Whether nobody serves the mount any more.
bool daemon_is_dead(const MountEntry& mount);

// A conversation of several questions.
class ControlTalk {
 public:
  static Outcome<std::unique_ptr<ControlTalk>> open(const MountEntry& mount);
  // A line there, a line back, which must be a JSON object and no error.
  Outcome<nlohmann::json> ask(const std::string& line);
  // Only in a process forked off: the conversation goes on without it.
  void drop() { fd_.reset(); }

 private:
  ControlTalk(MountEntry mount, UniqueFd fd) : mount_(std::move(mount)), fd_(std::move(fd)) {}

  MountEntry mount_;
  UniqueFd fd_;
};

// As locate(), and the mount must be a layerfs: the usual first step of a command.
Outcome<Located> locate_layerfs(const std::string& path, LastComponent last);

}  // namespace layerfs
