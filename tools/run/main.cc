// The program `layerfs-run`.
#include <sys/prctl.h>
#include <unistd.h>

#include <iostream>
#include <span>
#include <string>
#include <vector>

#include "layers/sys/resident.h"
#include "tools/common/process.h"
#include "tools/run/commands.h"
#include "tools/run/container.h"
#include "tools/run/exit_code.h"
#include "tools/run/launcher.h"
#include "tools/run/options.h"
#include "tools/run/sealed_self.h"

namespace layerfs::run {
namespace {

// What the options and a container's start take.
constexpr std::size_t kStartHeap = 96 * 1024;

int run_command(std::span<const std::string> arguments, const Streams& streams) {
  RunOptions options;
  const Command command = options.describe();
  return parse_and_run(
      command, arguments, streams.out,
      [&](const Problem& problem) { return report(problem, streams); },
      [&](const std::vector<std::string>& words) -> Outcome<int> {
        LFS_ASSIGN(RunConfig config, options.finish(words));
        return launch(std::move(config), streams);
      });
}

int run_program(std::span<const std::string> arguments, const Streams& streams) {
  if (!arguments.empty() && (arguments[0] == "--version" || arguments[0] == "-V")) {
    streams.out << "layerfs-run " LFS_VERSION "\n";
    return 0;
  }
  if (const auto code = run_other_command(arguments, streams)) {
    return *code;
  }
  return run_command(arguments, streams);
}

}  // namespace
}  // namespace layerfs::run

int main(int argc, char** argv) {
  using layerfs::run::kLauncherFailed;
  using layerfs::run::kStartHeap;
  if (!layerfs::open_standard_descriptors()) {
    return kLauncherFailed;
  }
  const layerfs::Streams streams{std::cout, std::cerr, ::isatty(STDOUT_FILENO) == 1,
                                 ::isatty(STDERR_FILENO) == 1};
  if (const auto sealed = layerfs::run::run_sealed(argv); !sealed) {
    return layerfs::run::report(sealed.error(), streams);
  }
  layerfs::sys::map_code();
  layerfs::sys::populate_heap(kStartHeap);
  ::prctl(PR_SET_NAME, "layerfs-run");  // not the descriptor that it was started from
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  layerfs::run::remember_arguments(argc, argv);
  const int code = layerfs::run::run_program(arguments, streams);
  std::cout.flush();
  return code;
}
