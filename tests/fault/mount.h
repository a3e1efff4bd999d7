// One layerfsd in the foreground, traced or not.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "layers/mount_config.h"
#include "tests/fault/tracer.h"

namespace layerfs::fault {

// A program of the build: it is beside this one.
std::string program(const std::string& name);

enum class Watch { Traced, Free };

class Mount {
 public:
  // Returns when it answers; throws std::runtime_error with what the daemon said. `base`:
  // see Tracer.
  Mount(const MountConfig& config, const std::string& base, Watch watch);
  // Kills and unmounts what is still there.
  ~Mount();
  Mount(const Mount&) = delete;
  Mount& operator=(const Mount&) = delete;

  Tracer& tracer() { return *tracer_; }
  pid_t pid() const { return pid_; }
  // Of the daemon: nullopt while it runs.
  std::optional<int> ended();
  // Waits for the daemon's end: "" if it was exit code 0, else what it was.
  std::string unmount();
  // The daemon's end by SIGKILL, and that of the mount without it.
  void kill();

 private:
  std::optional<int> wait(std::chrono::milliseconds limit);

  std::string mountpoint_;
  std::unique_ptr<Tracer> tracer_;
  pid_t pid_ = 0;
  std::optional<int> status_;
  bool mounted_ = false;
};

// Kills a process that is not done in time, so that whoever waits for it goes on.
class Watchdog {
 public:
  Watchdog(pid_t pid, std::chrono::seconds limit);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;
  bool barked() const { return barked_; }

 private:
  std::atomic<bool> over_{false};
  std::atomic<bool> barked_{false};
  std::thread thread_;
};

}  // namespace layerfs::fault
