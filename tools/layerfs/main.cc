// The program `layerfs`, also under the names mount.layerfs and mount.fuse.layerfs.
#include <fcntl.h>
#include <unistd.h>

#include <iostream>
#include <string>
#include <vector>

#include "layers/sys/unique_fd.h"
#include "tools/layerfs/app.h"

namespace {

// A caller that closed 0, 1 or 2 would otherwise have its messages written into whatever
// is opened next.
bool standard_descriptors_are_open() {
  int fd = 0;
  do {
    fd = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    if (fd < 0) {
      return ::fcntl(STDERR_FILENO, F_GETFD) >= 0;
    }
  } while (fd <= STDERR_FILENO && ::fcntl(fd, F_SETFD, 0) == 0);
  const layerfs::UniqueFd spare(fd);
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  if (!standard_descriptors_are_open()) {
    return layerfs::to_int(layerfs::ExitCode::Failure);
  }
  const std::vector<std::string> arguments(argv, argv + argc);
  const layerfs::Streams streams{std::cout, std::cerr, ::isatty(STDOUT_FILENO) == 1,
                                 ::isatty(STDERR_FILENO) == 1};
  const int code = layerfs::run_layerfs(arguments, streams, {});
  if (!std::cout.flush() && code == layerfs::to_int(layerfs::ExitCode::Ok)) {
    std::cerr << "layerfs: cannot write to standard output\n";
    return layerfs::to_int(layerfs::ExitCode::Failure);
  }
  return code;
}
