#include "tests/unit/tools/ran.h"

#include <sstream>

namespace layerfs::testing {

std::vector<CommandEntry> all_commands() {
  std::vector<CommandEntry> all(mount_commands().begin(), mount_commands().end());
  all.insert(all.end(), layer_commands().begin(), layer_commands().end());
  return all;
}

Ran run_program(const std::vector<std::string>& arguments, const Environment& environment) {
  std::ostringstream out;
  std::ostringstream err;
  Ran ran;
  ran.code = run_layerfs(arguments, Streams{out, err}, environment, all_commands());
  ran.out = out.str();
  ran.err = err.str();
  return ran;
}

Ran run_recorded(const std::vector<std::string>& arguments, const Outcome<int>& answer) {
  std::optional<MountConfig> recorded;
  Environment environment;
  environment.start_daemon = [&](const MountConfig& config, const DaemonStart& start) {
    recorded = config;
    if (answer) {
      start.ready();
    }
    return answer;
  };
  Ran ran = run_program(arguments, environment);
  ran.config = std::move(recorded);
  return ran;
}

}  // namespace layerfs::testing
