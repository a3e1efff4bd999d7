// Where `layerfs stats`, `which` and `umount` reach the daemon: an abstract socket named
// by the mount's device number, so that it needs no directory and leaves nothing behind.
// One line of JSON in, one document out.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <thread>

#include "layers/sys/result.h"
#include "layers/sys/unique_fd.h"

namespace layerfs {

class ControlSocket {
 public:
  using Handler = std::function<std::string(const std::string& request)>;

  // Serves the socket of the mount with device `device` in a thread of its own until
  // destroyed. Peers other than root and the daemon's own user are turned away.
  static Result<std::unique_ptr<ControlSocket>> open(dev_t device, Handler handler);
  ~ControlSocket();
  ControlSocket(const ControlSocket&) = delete;
  ControlSocket& operator=(const ControlSocket&) = delete;

 private:
  ControlSocket(UniqueFd listener, UniqueFd stop, Handler handler);
  void serve();
  void answer(int peer) const;

  UniqueFd listener_;
  UniqueFd stop_;
  Handler handler_;
  std::thread thread_;
};

}  // namespace layerfs
