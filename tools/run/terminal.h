// Between the user's terminal and the container's.
#pragma once

#include <termios.h>

#include <string>

#include "layers/sys/unique_fd.h"

namespace layerfs::run {

class TerminalRelay {
 public:
  TerminalRelay() = default;
  ~TerminalRelay() { finish(); }
  TerminalRelay(const TerminalRelay&) = delete;
  TerminalRelay& operator=(const TerminalRelay&) = delete;

  // From here on: the user's terminal is raw, and its size is the container's.
  void start(UniqueFd master);
  // Hands on what is still to be read from the container and gives the terminal back.
  void finish();
  void resize() const;

  // What to poll for reading, or -1.
  int input() const;
  int output() const { return master_.get(); }
  // After poll(2) has said so.
  void copy_input();
  void copy_output();

 private:
  void restore();

  UniqueFd master_;
  bool raw_ = false;
  bool input_open_ = true;
  struct termios before_ = {};
};

}  // namespace layerfs::run
