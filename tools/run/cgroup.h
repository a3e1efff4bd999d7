// The control groups of one container: made, filled, read and removed.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/common/mount_table.h"
#include "tools/common/problem.h"
#include "tools/run/cgroup_limits.h"
#include "tools/run/procfs/use.h"

namespace layerfs::run {

// Where a controller is mounted and in which group of it this process is.
struct CgroupPlace {
  CgroupVersion version = CgroupVersion::V2;
  std::string mount;
  std::string own;  // "/" or "/a/b"
};

// By controller; of v2 the one entry "". `membership`: the text of /proc/self/cgroup.
std::map<std::string, CgroupPlace> find_cgroup_places(const std::vector<MountEntry>& mounts,
                                                      std::string_view membership);

// What the container used, and how often a limit held it.
struct CgroupReport {
  std::optional<std::uint64_t> memory_peak;
  std::uint64_t oom_kills = 0;
  std::uint64_t periods = 0;
  std::uint64_t throttled = 0;
  std::optional<std::uint64_t> pids_peak;
  std::uint64_t pids_refused = 0;
};

// A number of a "KEY VALUE" line; 0 if there is none.
std::uint64_t value_of_key(std::string_view text, std::string_view key);

class Cgroups {
 public:
  Cgroups() = default;
  ~Cgroups();
  Cgroups(const Cgroups&) = delete;
  Cgroups& operator=(const Cgroups&) = delete;

  // Makes the groups that the limits need and sets them. A limit that cannot be set is an
  // error that names its option, unless best effort is enough.
  Outcome<void> make(const std::string& name, const Limits& limits);
  Outcome<void> add_payload(pid_t pid);
  // The filesystem's daemon counts for I/O only: it must neither be frozen nor killed.
  Outcome<void> add_daemon(pid_t pid);
  CgroupReport report() const;
  // Kills what is still in the payload, and removes the groups.
  Outcome<void> remove();

  // Where the payload's use is counted.
  CgroupDirs payload_dirs() const;

  // What was left out for best effort.
  const std::vector<std::string>& left_out() const { return left_out_; }
  // The group of the payload in each hierarchy, for who wants to join it.
  std::vector<std::string> payload() const;

 private:
  struct Group {
    std::string parent;  // above both; for v1 the payload's own
    std::string payload;
    std::string daemon;  // "": it stays where it is
    bool made_parent = false;
  };
  Outcome<Group*> group_of(const std::string& controller, const std::string& name);
  Outcome<Group> make_v1(const std::string& controller, const CgroupPlace& place,
                         const std::string& name);
  Outcome<Group> make_v2(const CgroupPlace& place, const std::string& name);
  Outcome<void> enable(const std::string& controller);
  Outcome<void> apply(const CgroupWrite& write, const std::string& name);
  void count_use(const std::string& name);
  std::string read(const char* controller, const char* file) const;

  std::map<std::string, CgroupPlace> places_;
  std::map<std::string, Group> groups_;  // by controller; v2: ""
  std::vector<std::string> left_out_;
};

}  // namespace layerfs::run
