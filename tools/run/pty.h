// A terminal for the container, of the container's own /dev/pts.
#pragma once

#include <sys/types.h>

#include "layers/sys/unique_fd.h"
#include "tools/common/problem.h"

namespace layerfs::run {

struct Pty {
  UniqueFd master;
  UniqueFd slave;
};

// Inside the container's root.
Outcome<Pty> open_container_pty(uid_t owner);
// Before the container's processes run: /dev/console becomes the terminal.
Outcome<void> make_console(const Pty& pty);

}  // namespace layerfs::run
