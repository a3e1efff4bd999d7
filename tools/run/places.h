// Where a container keeps what belongs to it while it runs.
#pragma once

#include <string>
#include <vector>

#include "tools/common/problem.h"
#include "tools/run/run_config.h"

namespace layerfs::run {

struct Places {
  std::string state;    // in memory: the mount point, and what other commands read
  std::string data;     // on disk: the init layer and a throw-away upper
  std::string root;     // the mount point
  std::string init;     // the init layer
  std::string scratch;  // the throw-away upper; "" with an upper of the user's
};

// The directory of all containers of this user: below /run for root, below
// $XDG_RUNTIME_DIR, or /tmp/layerfs-run-UID.
Outcome<std::string> state_home();

// A name for a container that was given none.
Outcome<std::string> random_id();
// [a-zA-Z0-9_+-][a-zA-Z0-9_+.-]*, at most 64 characters.
bool is_valid_name(std::string_view name);

// Makes the directories, for the caller alone. A failure if there is a container of that
// name.
Outcome<Places> make_places(const std::string& name, bool with_scratch);

// Fills the init layer: /etc/hosts, hostname, resolv.conf and mtab, unless what the layers
// have as /etc is no directory; and the mount points /dev, /proc and /sys.
Outcome<void> fill_init_layer(const RunConfig& config, const Places& places);

// Removes what make_places made and whatever came to lie in it.
Outcome<void> remove_places(const Places& places);

}  // namespace layerfs::run
