// A running container's root, as its own user outside of it can read it.
#pragma once

#include <string>

#include "tools/common/mount_table.h"
#include "tools/common/problem.h"

namespace layerfs::run {

// Unless root calls, the process joins the user namespace in which the container's files
// have owners; nobody outside of that sees the mount. So there must be no other threads.
Outcome<Located> join_root(const std::string& name);

}  // namespace layerfs::run
