// One mount from its configuration to its end.
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>

#include "fs/fuse_ops.h"
#include "layers/mount_config.h"

namespace layerfs {

class Session {
 public:
  // Opens and checks the layers and the work directories, and mounts. Nothing is left
  // behind on failure.
  static Result<std::unique_ptr<Session>, Failure> mount(const MountConfig& config);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Serves until the mount is gone: unmounted, or after SIGINT or SIGTERM. `on_ready` is
  // called with the mount's device once it answers and can be asked for its statistics; false
  // from it (nobody waits for the mount) unmounts.
  Result<void, Failure> run(const std::function<bool(dev_t)>& on_ready);

 private:
  struct State;
  explicit Session(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace layerfs
