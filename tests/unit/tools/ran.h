// A whole command line of one of the programs, in process.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tools/layerfs/app.h"

namespace layerfs::testing {

struct Ran {
  int code = -1;
  std::string out;
  std::string err;
  std::optional<MountConfig> config;  // what the daemon would have got, if it was recorded
};

// Those of both programs.
std::vector<CommandEntry> all_commands();

// arguments[0] is the program's name.
Ran run_program(const std::vector<std::string>& arguments, const Environment& environment = {});

// No daemon is started: what it would get is recorded, and `answer` is its outcome.
Ran run_recorded(const std::vector<std::string>& arguments, const Outcome<int>& answer = 0);

}  // namespace layerfs::testing
