// A mount whose layers are kept as they are while somebody reads them. Its writers wait, so
// it is for short work; the daemon ends it after a minute.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "layers/sys/unique_fd.h"
#include "tools/common/control_client.h"
#include "tools/common/mount_table.h"
#include "tools/common/problem.h"

namespace layerfs {

class FrozenMount {
 public:
  // `path`: where the root of the mount can be reached. `upper`: its upper directory. What
  // was written before is there, of what comes later nothing.
  static Outcome<std::unique_ptr<FrozenMount>> freeze(const MountEntry& mount,
                                                      const std::string& path,
                                                      const std::string& upper);
  ~FrozenMount();
  FrozenMount(const FrozenMount&) = delete;
  FrozenMount& operator=(const FrozenMount&) = delete;

  // Lets the writers go. A failure: what was read may not be of one instant.
  Outcome<void> thaw();

 private:
  explicit FrozenMount(std::string shown) : shown_(std::move(shown)) {}
  Outcome<void> write_back() const;
  Outcome<void> hold(const std::string& path);
  // What a memory mapping writes no lock keeps back, but the file's times tell.
  Outcome<void> watch(const std::string& path);
  Outcome<void> check_watched() const;
  Problem mapped(const std::string& path) const;
  void release();

  std::string shown_;
  UniqueFd root_;
  UniqueFd upper_;
  std::unique_ptr<ControlTalk> talk_;
  std::vector<pid_t> holders_;
  struct Watched {
    std::string path;
    UniqueFd fd;
    struct statx st;
  };
  std::vector<Watched> watched_;
};

}  // namespace layerfs
