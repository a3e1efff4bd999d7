#include "tools/common/program.h"
#include "tools/layerfs/main.h"

namespace layerfs {

int main_with(int argc, char** argv, std::span<const CommandEntry> commands,
              const Environment& environment) {
  return run_main("layerfs", argc, argv,
                  [&](std::span<const std::string> arguments, const Streams& streams) {
                    return run_layerfs(arguments, streams, environment, commands);
                  });
}

}  // namespace layerfs
