#include "tools/common/program.h"

#include <unistd.h>

#include <iostream>
#include <vector>

#include "tools/common/exit_code.h"
#include "tools/common/process.h"

namespace layerfs {

int run_main(const char* name, int argc, char** argv,
             const std::function<int(std::span<const std::string>, const Streams&)>& work) {
  if (!open_standard_descriptors()) {
    return to_int(ExitCode::Failure);
  }
  const std::vector<std::string> arguments(argv, argv + argc);
  const Streams streams{std::cout, std::cerr, ::isatty(STDOUT_FILENO) == 1,
                        ::isatty(STDERR_FILENO) == 1};
  const int code = work(arguments, streams);
  if (!std::cout.flush() && code == to_int(ExitCode::Ok)) {
    std::cerr << name << ": cannot write to standard output\n";
    return to_int(ExitCode::Failure);
  }
  return code;
}

}  // namespace layerfs
