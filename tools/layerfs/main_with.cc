#include <unistd.h>

#include <iostream>
#include <string>
#include <vector>

#include "tools/common/process.h"
#include "tools/layerfs/main.h"

namespace layerfs {

int main_with(int argc, char** argv, std::span<const CommandEntry> commands) {
  if (!open_standard_descriptors()) {
    return to_int(ExitCode::Failure);
  }
  const std::vector<std::string> arguments(argv, argv + argc);
  const Streams streams{std::cout, std::cerr, ::isatty(STDOUT_FILENO) == 1,
                        ::isatty(STDERR_FILENO) == 1};
  const int code = run_layerfs(arguments, streams, {}, commands);
  if (!std::cout.flush() && code == to_int(ExitCode::Ok)) {
    std::cerr << "layerfs: cannot write to standard output\n";
    return to_int(ExitCode::Failure);
  }
  return code;
}

}  // namespace layerfs
