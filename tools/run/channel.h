// Short messages between the launcher's processes: a kind, a number, a text, and at most
// one descriptor. One message is one packet.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "layers/sys/unique_fd.h"
#include "tools/common/problem.h"

namespace layerfs::run {

enum class Word : std::uint32_t {
  Go,        // to the container: it has its ids and control groups
  Mounted,   // to it: the merged layers are mounted, with the places of its volumes
  MapMe,     // from the supervisor: it is in a new user namespace, without maps
  Mapped,    // to it: now it has them
  Terminal,  // with the descriptor of the pty's master
  Started,   // the command's program runs; number: pid as the receiver sees it, or 0
  Failed,    // number: the exit code; text: why
  Ended,     // number: the wait status of the command
  Signal,    // to the container: number is the signal to hand on
  Report,    // text: JSON of how it ended; number: the exit code
};

struct Message {
  Word word = Word::Go;
  std::int64_t number = 0;
  std::string text = {};
  UniqueFd fd = {};
};

class Channel {
 public:
  Channel() = default;
  explicit Channel(UniqueFd fd) : fd_(std::move(fd)) {}
  static Outcome<std::pair<Channel, Channel>> pair();

  int fd() const { return fd_.get(); }
  void close() { fd_.reset(); }
  // False if nobody can hear it any more.
  bool send(Word word, std::int64_t number = 0, const std::string& text = {}, int fd = -1) const;
  // Waits. nullopt: the other end is closed.
  std::optional<Message> receive() const;

 private:
  UniqueFd fd_;
};

}  // namespace layerfs::run
