// What one container is made of: the command line after it was understood. Data only.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "layers/mount_config.h"
#include "tools/run/cgroup_limits.h"

namespace layerfs::run {

// The namespaces that a container gets of its own, as clone3(2) flags.
struct NamespaceChoice {
  bool user = true;
  bool pid = true;
  bool net = true;
  bool uts = true;
  bool ipc = true;
  bool cgroup = true;
  bool time = true;
};

struct Volume {
  std::string source;  // "": a tmpfs
  std::string target;
  bool read_only = false;
  bool no_exec = false;
  bool no_suid = false;
  bool no_dev = true;
  std::uint64_t propagation = 0;  // MS_PRIVATE, MS_SLAVE or MS_SHARED; 0: private
  std::string tmpfs_size;         // as tmpfs(5) has it; "": its default
  mode_t tmpfs_mode = 01777;
};

struct RLimit {
  int resource = 0;
  std::uint64_t soft = 0;
  std::uint64_t hard = 0;
};

enum class Network { None, Host, Pasta };

// "HOST:CONTAINER" of one published port.
struct Port {
  std::string address;  // "": every address
  std::uint16_t host = 0;
  std::uint16_t container = 0;
  bool udp = false;
};

struct RunConfig {
  std::string name;                 // "": an id is made up
  std::vector<std::string> layers;  // top first
  std::string upper;                // "": a throw-away one
  std::string image;                // "": none; its layers are below the others
  std::string store;                // where it is unpacked; "": the usual place
  bool read_only = false;

  NamespaceChoice own;
  std::string hostname;

  std::vector<Volume> volumes;
  std::vector<std::string> environment;  // NAME=VALUE, later ones win
  std::string workdir;                   // "": /
  bool make_workdir = false;             // the image has promised it
  std::string user;                      // "": 0:0
  std::vector<RLimit> limits;

  std::uint64_t capabilities = 0;  // a bit for each
  std::string seccomp = "default";
  bool no_new_privs = true;
  bool init = true;
  bool terminal = false;
  bool interactive = false;

  Limits limits_of_groups;
  int status_fd = -1;  // where the report of the end goes; -1: nowhere

  Network network = Network::None;
  std::vector<Port> ports;
  std::optional<std::uint64_t> net_rate;  // bits a second, each way

  bool detach = false;
  bool remove_log = false;
  std::string log_file;  // of a detached container; "": NAME.log beside its state

  std::optional<std::string> entrypoint;  // in place of the image's
  std::vector<std::string> command;
};

}  // namespace layerfs::run
