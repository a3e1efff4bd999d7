// Starting layerfsd and learning whether the mount answers.
#pragma once

#include <functional>
#include <string>

#include "layers/mount_config.h"
#include "tools/common/problem.h"

namespace layerfs {

// Beside this program, else in ../libexec/layerfs, else in $PATH.
Outcome<std::string> find_daemon();
// The same for a program that is in `folder`.
Outcome<std::string> find_daemon_from(const std::string& folder);

struct DaemonStart {
  std::string program;                  // layerfsd
  std::function<void()> ready = [] {};  // called once, when the mount answers
};

// Starts the daemon with `config` and waits for its word. In the background: 0, once the
// mount answers and the kernel shows it at the mount point. In the foreground: what the
// daemon exits with; SIGINT, SIGTERM, SIGHUP and SIGQUIT are handed on to it.
// ENSURES: on failure, and when a signal ends the wait, neither daemon nor mount is left.
Outcome<int> start_daemon(const MountConfig& config, const DaemonStart& start);

}  // namespace layerfs
