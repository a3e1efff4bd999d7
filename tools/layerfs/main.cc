// The program `layerfs`, also under the names mount.layerfs and mount.fuse.layerfs.
#include <unistd.h>

#include <iostream>
#include <string>
#include <vector>

#include "tools/common/process.h"
#include "tools/layerfs/app.h"

int main(int argc, char** argv) {
  if (!layerfs::open_standard_descriptors()) {
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
