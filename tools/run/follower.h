// Stands between the user's terminal and signals and a process that reports over a channel.
#pragma once

#include <functional>
#include <string>

#include "tools/common/streams.h"
#include "tools/run/channel.h"
#include "tools/run/terminal.h"

namespace layerfs::run {

class Follower {
 public:
  Follower(const Streams& streams, int status_fd) : streams_(streams), status_fd_(status_fd) {}

  // Called once the command runs.
  void on_start(std::function<void()> call) { started_ = std::move(call); }

  // Forks a process that does `work`, hands signals and the terminal on to it, and returns
  // the exit code it reports; what it says went wrong is printed. `abandoned` clears up
  // after one that was killed.
  int follow(const std::function<void(Channel)>& work, const std::function<void()>& abandoned);

 private:
  void turn();
  void hand_on_signal();
  void hear();
  void give_ids();
  void take_report(const Message& message);
  void write_status(const std::string& report) const;
  int fail(const std::string& message);

  const Streams& streams_;
  int status_fd_;
  std::function<void()> started_ = [] {};
  Channel channel_;
  UniqueFd signals_;
  TerminalRelay terminal_;
  pid_t worker_ = -1;
  std::string map_problem_;
  bool over_ = false;
  bool reported_ = false;
  int code_ = 0;
};

}  // namespace layerfs::run
