// layerfs-overlay: the command line and the daemon in one program, which engines start for each
// container: a second program would be a third of the time that a mount takes.
#include <algorithm>

#include "fs/serve.h"
#include "tools/common/daemon.h"
#include "tools/common/program.h"
#include "tools/overlay/overlay_program.h"

int main(int argc, char** argv) {
  using namespace layerfs;
  const auto start = [](const MountConfig& config, std::function<void(const std::string&)> note) {
    return start_daemon(config, {.serve = serve_mount, .note = std::move(note)});
  };
  return run_main("layerfs-overlay", argc, argv,
                  [&](std::span<const std::string> arguments, const Streams& streams) {
                    const std::string called = arguments.empty() ? "layerfs-overlay" : arguments[0];
                    return overlay_program(
                        called.substr(called.rfind('/') + 1),
                        arguments.subspan(std::min<std::size_t>(arguments.size(), 1)), streams,
                        start);
                  });
}
