// A mount point and layers in a temporary folder, served by fake_layerfsd; all of it is
// taken away at the end, also after a failed check.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <functional>
#include <string>

#include "layers/mount_config.h"
#include "tools/common/daemon.h"

namespace layerfs::testing {

class FakeMount {
 public:
  FakeMount();
  ~FakeMount();
  FakeMount(const FakeMount&) = delete;
  FakeMount& operator=(const FakeMount&) = delete;
  FakeMount(FakeMount&&) = delete;
  FakeMount& operator=(FakeMount&&) = delete;

  // Whether this process may mount at all; tests that need it skip themselves if not.
  bool can_mount() const;
  // `role`: see fake_layerfsd.cc.
  Outcome<int> start(
      const std::string& role, std::function<void()> ready = [] {});
  void kill_daemon() const;
  bool is_mounted() const;
  void wait_for_pid_file() const;
  bool daemon_is_gone() const;

  std::filesystem::path folder;
  std::string mountpoint;
  std::string program;
  std::string notes;  // what start() was told
  std::function<Outcome<void>(pid_t)> meanwhile = [](pid_t) { return Outcome<void>(); };
  MountConfig config;
};

}  // namespace layerfs::testing
