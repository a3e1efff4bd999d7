// What other commands know of a running container: a file beside its mount point.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "layers/sys/unique_fd.h"
#include "tools/common/problem.h"
#include "tools/run/run_config.h"

namespace layerfs::run {

struct ContainerState {
  std::string name;
  pid_t pid = 0;     // the first process, as the host numbers it
  pid_t daemon = 0;  // who serves its root
  std::string root;  // where that is mounted, as the daemon sees it
  // When it started (proc(5)): a number that is used again does not pass for it.
  std::uint64_t start_time = 0;
  std::int64_t created = 0;  // seconds since 1970
  std::vector<std::string> cgroups;
  RunConfig config;  // what `exec` needs of it, and what is shown
};

// What /proc/PID/stat says after the process's name (proc(5): from the third field on);
// empty if there is no such process.
std::vector<std::string> process_words(pid_t pid);
// The start time of a process; nullopt if there is none.
std::optional<std::uint64_t> start_time_of(pid_t pid);

nlohmann::json state_to_json(const ContainerState& state);
std::optional<ContainerState> state_from_json(const nlohmann::json& document);

Outcome<void> write_state(const std::string& folder, const ContainerState& state);
// A failure if there is no container of that name.
Outcome<ContainerState> read_state(const std::string& name);
// Those that run. What cannot be read is left out: it is being made or removed.
Outcome<std::vector<ContainerState>> running_containers();

// A descriptor of its first process; a failure if that is gone.
Outcome<UniqueFd> open_container(const ContainerState& state);

}  // namespace layerfs::run
