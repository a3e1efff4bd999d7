// Which files' data the kernel reads and writes past the daemon.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <unordered_set>

#include "fs/node.h"

namespace layerfs {

// The kernel keeps the backing file of an open file until it is closed, so while a node is
// pinned its data must stay in the same stored inode. A leaf lock.
class DataPins {
 public:
  void pin(NodeId node) {
    const std::lock_guard lock(mutex_);
    pinned_.insert(node);
  }
  void unpin(NodeId node) {
    {
      const std::lock_guard lock(mutex_);
      pinned_.erase(node);
    }
    changed_.notify_all();
  }
  bool is_pinned(NodeId node) const {
    const std::lock_guard lock(mutex_);
    return pinned_.contains(node);
  }
  // False: still pinned at `deadline`.
  bool wait_until_free(NodeId node, std::chrono::steady_clock::time_point deadline) {
    std::unique_lock lock(mutex_);
    return changed_.wait_until(lock, deadline, [&] { return !pinned_.contains(node); });
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::unordered_set<NodeId> pinned_;
};

}  // namespace layerfs
