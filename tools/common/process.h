// Starting other programs with nothing but the descriptors they are meant to have, and
// waiting for processes without races.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "layers/sys/unique_fd.h"
#include "tools/common/problem.h"

namespace layerfs {

// The first executable `name` in $PATH, then in the system's own folders.
std::optional<std::string> find_program(const std::string& name);

// Starts argv[0] (a path). Of our descriptors it gets 0 to 2 and `inherited`, renumbered
// from 3 on in that order; its signals are unblocked and at their defaults.
Outcome<pid_t> spawn(const std::vector<std::string>& argv, const std::vector<int>& inherited);

// The same for a child that does `body`, with its copy of `inherited`, and ends with the exit code
// that it returns.
Outcome<pid_t> fork_off(const std::function<int(UniqueFd)>& body, const UniqueFd& inherited);

// A caller that closed 0, 1 or 2 would otherwise have messages written into whatever is
// opened next: they become /dev/null. False: they could not.
bool open_standard_descriptors();

// How a program ended, and what it wrote.
struct Finished {
  int status = 0;  // as waitpid(2) gives it
  std::string output;
  std::string error_text;
};

// Runs argv[0] (a path) to its end.
Outcome<Finished> run_to_end(const std::vector<std::string>& argv);

// "exited with code 3", "was ended by signal 11 (Segmentation fault)".
std::string describe_wait_status(int status);

// pidfd_open(2).
Result<UniqueFd> open_process(pid_t pid);

// True once the process has ended; false after `patience` (nullopt: wait for ever).
bool wait_for_end(const UniqueFd& process, std::optional<std::chrono::milliseconds> patience);

// Takes in the orphans of what is started during its life, so that a daemon which has put
// itself into the background can still be ended when the mount fails.
class Brood {
 public:
  Brood();
  ~Brood();
  Brood(const Brood&) = delete;
  Brood& operator=(const Brood&) = delete;
  Brood(Brood&&) = delete;
  Brood& operator=(Brood&&) = delete;

  // Waits for all descendants that came since; after `patience` asks them to end
  // (SIGTERM), and some seconds later makes them.
  void end_all(std::chrono::milliseconds patience) const;
  // From now on only `pid` and what comes later are its own.
  void disown_all_but(pid_t pid);

 private:
  std::set<pid_t> earlier_;
  bool was_subreaper_ = false;
};

}  // namespace layerfs
