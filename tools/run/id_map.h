// Which user and group ids of the host a container has.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "layers/mount_config.h"
#include "tools/common/problem.h"

namespace layerfs::run {

struct IdMaps {
  std::vector<IdRange> uids;
  std::vector<IdRange> gids;
  // Whether setgroups(2) must be given up, as the kernel demands of a caller without rights.
  bool deny_setgroups = false;
};

// The lines of /etc/subuid or /etc/subgid that name the user, by name or by number. A
// malformed line of that user is an error.
Outcome<std::vector<IdRange>> subordinate_ids(std::string_view text, std::string_view name,
                                              uid_t uid);

// The caller as 0 and its subordinate ids from 1 on; only 0 where there are none.
std::vector<IdRange> with_caller_as_root(unsigned caller, const std::vector<IdRange>& subordinate);

// As /proc/PID/uid_map takes it.
std::string map_text(const std::vector<IdRange>& map);

// The number of ids from 0 on without a gap.
std::uint64_t mapped_from_zero(const std::vector<IdRange>& map);
bool is_mapped(const std::vector<IdRange>& map, std::uint32_t container);

// The maps of an unprivileged caller: from /etc/subuid and /etc/subgid when both have
// ranges for it and newuidmap is installed, else its own ids alone.
Outcome<IdMaps> maps_of_caller();

// Writes the maps of `pid`, which is in a new user namespace: itself where it may, else
// through newuidmap(1) and newgidmap(1).
Outcome<void> write_maps(pid_t pid, const IdMaps& maps, bool privileged);

// All ids of the namespace of the calling process, unchanged.
Outcome<IdMaps> identity_maps();

}  // namespace layerfs::run
