// From the container's init to the user's command: the last steps, in the process that
// becomes the command.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tools/common/problem.h"
#include "tools/run/container_user.h"
#include "tools/run/run_config.h"
#include "tools/run/seccomp.h"

namespace layerfs::run {

struct CommandSetup {
  std::vector<std::string> argv;
  std::vector<std::string> environment;
  std::string workdir;
  ContainerUser user;
  std::vector<RLimit> limits;
  std::optional<double> cpus;  // how many processors it is to see
  std::uint64_t capabilities = 0;
  bool no_new_privs = true;
  SeccompChoice seccomp;
  int terminal = -1;  // the pty's slave, which becomes standard input and output, or none
};

struct CommandFailure {
  int code;
  std::string message;
};

// PATH, HOME, HOSTNAME, container and TERM, then what was asked for; later ones win.
std::vector<std::string> make_environment(const RunConfig& config, const ContainerUser& user);

// Replaces the calling process; returns only why it could not.
CommandFailure become_command(const CommandSetup& setup);

}  // namespace layerfs::run
