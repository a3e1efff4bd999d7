// The container's own /proc/meminfo and the like: a small filesystem of the launcher's,
// whose files are put over the kernel's.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "layers/sys/unique_fd.h"
#include "tools/common/problem.h"
#include "tools/run/procfs/use.h"

namespace layerfs::run {

struct ProcFile {
  std::string target;  // below the container's root
  UniqueFd mount;      // detached
};

class ProcFiles {
 public:
  // Mounts at `place`, a directory of the caller's mount namespace, and starts the process
  // that serves. Nothing is left of it on failure.
  Outcome<void> start(const std::string& place, const CgroupDirs& dirs);
  // For the container to put over its own.
  std::vector<ProcFile> take_files() { return std::move(files_); }
  // Readable once the server has ended; -1 without one.
  int watch() const { return process_.get(); }
  // The server has ended by itself: the kernel's files show again in the mount namespace of
  // the process `inside`.
  void uncover(pid_t inside);
  void stop();

 private:
  Outcome<void> open_files();

  std::string place_;
  pid_t pid_ = -1;
  UniqueFd process_;
  std::vector<ProcFile> files_;
};

}  // namespace layerfs::run
