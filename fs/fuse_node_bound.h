// Keeps the nodes that the kernel has us know from taking the memory that a control group
// allows: the kernel, which does not count them, is asked to forget what nobody uses.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "fs/file_system.h"

namespace layerfs {

// The least limit of memory, in bytes, of the group that a line of /proc/self/cgroup names and of
// those around it, below `root`, which is /sys/fs/cgroup. nullopt: none.
std::optional<std::uint64_t> memory_limit(const std::string& line, const std::string& root);
// The least of all groups that this process is in.
std::optional<std::uint64_t> own_memory_limit();

// Needs Linux 6.18 (FUSE_NOTIFY_PRUNE); before that it does nothing.
class NodeBound {
 public:
  // `device`: of the connection. `limit` is asked each time: it may be set or changed.
  NodeBound(FileSystem& fs, int device,
            std::function<std::optional<std::uint64_t>()> limit = own_memory_limit);
  ~NodeBound();
  NodeBound(const NodeBound&) = delete;
  NodeBound& operator=(const NodeBound&) = delete;

  // There are more nodes. False: the kernel knows no such thing, and it need not be told again.
  bool on_growth();

 private:
  void work();
  // False: never again.
  bool shrink();
  Status ask_to_forget(const NodeId* nodes, std::size_t count);

  FileSystem& fs_;
  const int device_;
  const std::function<std::optional<std::uint64_t>()> limit_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool has_grown_ = false;
  bool is_over_ = false;
  std::thread thread_;
};

}  // namespace layerfs
