// Takes a container's traces away if its supervisor is killed: a process that shares the
// supervisor's mount namespace and does nothing but wait.
#pragma once

#include <functional>

#include "layers/sys/unique_fd.h"
#include "tools/common/problem.h"

namespace layerfs::run {

class Guardian {
 public:
  // `clean_up` runs in the guardian once the calling process is gone without dismiss().
  Outcome<void> start(const std::function<void()>& clean_up);
  void dismiss();

 private:
  UniqueFd line_;
  pid_t pid_ = -1;
};

}  // namespace layerfs::run
