// The problem that a failed system call is.
#pragma once

#include <string>

#include "tools/common/problem.h"

namespace layerfs::run {

// "cannot WHAT: the error's text".
inline Problem cannot(const std::string& what, Errno error = Errno::last()) {
  return failed("cannot " + what + ": " + describe(error));
}

}  // namespace layerfs::run
