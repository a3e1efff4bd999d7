// The tree under test: layerfs, kernel overlayfs, or a second plain directory.
#pragma once

#include <sys/types.h>

#include <algorithm>
#include <string>
#include <vector>

namespace layerfs::model {

enum class FsKind { Plain, Overlay, Layerfs };

struct MountSettings {
  FsKind kind = FsKind::Plain;
  bool read_only = false;  // overlayfs only: the layers as somebody else wrote them
  std::string io = "cached";
  // layerfsd; or instead commands with {lowers} {upper} {work} {init} {mountpoint} {io}.
  std::string daemon;
  std::string mount_command;
  std::string unmount_command;
  std::vector<std::string> options;  // key=value of the mount configuration, see set_option
  bool has_option(const std::string& option) const {
    return std::find(options.begin(), options.end(), option) != options.end();
  }
};

struct MountDirs {
  std::vector<std::string> lowers;  // topmost first
  std::string upper;
  std::string work;
  std::string init;  // may be empty
  std::string mountpoint;
  std::string log;
};

// "" on success, else what went wrong in one line.
class MountedTree {
 public:
  explicit MountedTree(const MountSettings& settings) : settings_(settings) {}
  std::string mount(const MountDirs& dirs);
  // Waits for the daemon, which must end with status 0.
  std::string unmount();
  pid_t daemon_pid() const { return pid_; }
  // What the daemon's end says, for a report; "" if it runs.
  std::string daemon_state();

 private:
  std::string mount_overlay(const MountDirs& dirs);
  std::string mount_layerfs(const MountDirs& dirs);
  std::string run_command(std::string command);

  MountSettings settings_;
  MountDirs dirs_;
  pid_t pid_ = 0;
};

}  // namespace layerfs::model
