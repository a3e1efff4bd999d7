// Starting a daemon and learning whether the mount answers.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>

#include "layers/mount_config.h"
#include "layers/sys/unique_fd.h"
#include "tools/common/problem.h"
#include "tools/common/streams.h"

namespace layerfs {

// One of our programs, for a caller that is in `folder`: there, else in ../libexec/layerfs,
// else in $PATH.
Outcome<std::string> find_beside(const std::string& name, const std::string& folder);
// The same for this program as the caller.
Outcome<std::string> find_beside_self(const std::string& name);

struct DaemonStart {
  std::string program{};  // layerfsd
  // Or instead: the daemon is a child of this process that does this, with where to write its
  // word, and ends with the exit code that it returns. A program less to start.
  std::function<int(const MountConfig&, UniqueFd status)> serve = nullptr;
  std::function<void()> ready = [] {};  // called once, when the mount answers
  // What can be done while the daemon, of which this is the pid, gets ready. Its failure is that
  // of the start. Processes that it starts are the caller's to end.
  std::function<Outcome<void>(pid_t)> meanwhile = [](pid_t) { return Outcome<void>(); };
  // What else there is to tell the user, a sentence each.
  std::function<void(const std::string&)> note = [](const std::string&) {};
};

// For DaemonStart::note: each on a line of `streams.err`, after "NAME: ".
std::function<void(const std::string&)> notes_to(const Streams& streams, const std::string& name);

// Starts the daemon with `config` and waits for its word. A mount at the mount point whose
// daemon is gone, which answers ENOTCONN to everything, is taken away first. In the background: 0,
// once the mount answers and the kernel shows it at the mount point; the daemon is a child. In the
// foreground: what the daemon exits with; SIGINT, SIGTERM, SIGHUP and SIGQUIT are handed on to it.
// ENSURES: on failure, and when a signal ends the wait, neither daemon nor mount is left.
Outcome<int> start_daemon(const MountConfig& config, const DaemonStart& start);

}  // namespace layerfs
