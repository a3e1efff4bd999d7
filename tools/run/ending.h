// How a container ended, for people and for programs.
#pragma once

#include <string>

#include "tools/run/cgroup.h"
#include "tools/run/cgroup_limits.h"
#include "tools/run/exit_code.h"

namespace layerfs::run {

struct Ending {
  int code = kLauncherFailed;
  int wait_status = -1;  // of the command; -1: it never ran
  std::string message;   // why the launcher failed
  CgroupReport used;
};

// One line of why a limit ended it or held it, or "": nothing to tell.
std::string explain(const Ending& ending, const Limits& limits, const std::string& command);
// One line of JSON: exit, signal, cause, and what was used.
std::string report_text(const Ending& ending, const Limits& limits, const std::string& command);

}  // namespace layerfs::run
