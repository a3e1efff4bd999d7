// What a daemon may do, and what it gives up once it has mounted.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "layers/sys/result.h"

namespace layerfs {

struct Privileges {
  std::vector<std::string> capabilities;  // permitted, as capabilities(7) spells them
  bool no_new_privileges = false;         // prctl(2), PR_SET_NO_NEW_PRIVS
};

// Gives up, for the calling thread and those that it is to start, every capability that serving
// does not need; and where the mount can be ended without a set-uid program, that a program
// could give any back. Of what fails the rest is kept as it is.
Status drop_privileges();

// Those of the calling thread.
Privileges privileges();

// Whether a thread has the capability (linux/capability.h) in effect in the initial user
// namespace, which is what the kernel's capable() asks. false: also of a thread that is gone.
bool has_initial_capability(pid_t thread, int capability);

}  // namespace layerfs
