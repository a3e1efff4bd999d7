// Where `layerfs stats`, `which` and `umount` reach the daemon: an abstract socket named
// by the mount's device number, so that it needs no directory and leaves nothing behind.
// One line of JSON in, one document out.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <thread>

#include "layers/sys/result.h"
#include "layers/sys/unique_fd.h"

namespace layerfs {

// The client's end of a conversation that lasts.
class ControlPeer {
 public:
  ControlPeer(int peer, int stop) : peer_(peer), stop_(stop) {}
  // The next line; nullopt: the client hung up, the mount ends, or the time is over.
  std::optional<std::string> receive(std::chrono::steady_clock::time_point deadline);
  bool send(const std::string& line);

 private:
  int peer_;
  int stop_;
  std::string waiting_;
};

class ControlSocket {
 public:
  struct Handler {
    std::function<std::string(const std::string& request)> answer;
    // Whether the request begins a conversation, which has a thread of its own, one at a
    // time.
    std::function<bool(const std::string& request)> is_talk;
    std::function<void(ControlPeer& peer)> talk;
    // To whom comes while there is one.
    std::string busy;
  };

  // Serves the socket of the mount with device `device` in a thread of its own until
  // destroyed. Peers other than root and the daemon's own user are turned away.
  static Result<std::unique_ptr<ControlSocket>> open(dev_t device, Handler handler);
  ~ControlSocket();
  ControlSocket(const ControlSocket&) = delete;
  ControlSocket& operator=(const ControlSocket&) = delete;

 private:
  ControlSocket(UniqueFd listener, UniqueFd stop, Handler handler);
  void serve();
  void answer(UniqueFd peer);
  void begin_talk(UniqueFd peer);

  UniqueFd listener_;
  UniqueFd stop_;
  Handler handler_;
  std::thread talk_;
  std::atomic<bool> talking_{false};
  std::thread thread_;
};

}  // namespace layerfs
