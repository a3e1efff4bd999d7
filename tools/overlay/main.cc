// layerfs-overlay: the command line and the daemon in one program, which engines start for each
// container: a second program would be a third of the time that a mount takes.
#include <iostream>
#include <string>
#include <vector>

#include "fs/serve.h"
#include "tools/common/daemon.h"
#include "tools/common/process.h"
#include "tools/overlay/overlay_program.h"

int main(int argc, char** argv) {
  using namespace layerfs;
  if (!open_standard_descriptors()) {
    return to_int(ExitCode::Failure);
  }
  const std::vector<std::string> words(argv, argv + argc);
  const std::string called = words.empty() ? "layerfs-overlay" : words[0];
  const int code = overlay_program(
      called.substr(called.rfind('/') + 1),
      std::span(words).subspan(std::min<std::size_t>(words.size(), 1)), {std::cout, std::cerr},
      [](const MountConfig& config, std::function<void(const std::string&)> note) {
        return start_daemon(config, {.serve = serve_mount, .note = std::move(note)});
      });
  if (!std::cout.flush() && code == to_int(ExitCode::Ok)) {
    std::cerr << "layerfs-overlay: cannot write to standard output\n";
    return to_int(ExitCode::Failure);
  }
  return code;
}
