// A real mount of fresh layers under a temporary directory, by the programs of the build.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "tests/testlib/files.h"

namespace layerfs::testing {

// The end of a program: its exit code (128 + signal), standard output and error together.
struct CommandResult {
  int code;
  std::string output;
};
// Runs a shell command with the build's programs first in PATH.
CommandResult run(const std::string& command);

// Waits up to 5 s until the filesystem of `path` has `bytes` to give. The kernel tells a FUSE
// daemon of the last close when it likes (RELEASE), and an unlinked file's room is free then.
void wait_for_room(const std::string& path, std::uint64_t bytes);

// What --io can be here: cached, and passthrough unless the machine lacks something, which is
// then said once as a skip.
const std::vector<std::string>& io_modes();

class TestMount {
 public:
  // Makes `lowers` empty lower directories; mounts nothing yet.
  explicit TestMount(std::size_t lowers = 1);
  // Unmounts, by force if need be, and removes the temporary directory.
  ~TestMount();
  TestMount(const TestMount&) = delete;
  TestMount& operator=(const TestMount&) = delete;

  std::string base() const { return base_; }
  std::string lower(std::size_t i = 0) const { return base_ + "/l" + std::to_string(i); }
  std::string upper() const { return base_ + "/u"; }
  std::string at(const std::string& path) const { return base_ + "/m/" + path; }

  // Throws std::runtime_error with what the program said.
  void mount(const std::string& options);
  void unmount();
  void remount();

  using Counts = std::map<std::string, std::uint64_t>;
  Counts requests() const;
  std::uint64_t copied_bytes() const;

 private:
  std::string base_;
  std::string options_;
  std::size_t lowers_;
  bool mounted_ = false;
};

// What was asked between two readings; kinds that were not asked are left out, and so
// are FORGET and BATCH_FORGET, which come when the kernel has time.
TestMount::Counts asked(const TestMount::Counts& before, const TestMount::Counts& after);
std::uint64_t total(const TestMount::Counts& counts);

}  // namespace layerfs::testing
