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

// Inside the container's root, before its processes run. /dev/console becomes the terminal.
Outcome<Pty> open_container_pty(uid_t owner);

}  // namespace layerfs::run
