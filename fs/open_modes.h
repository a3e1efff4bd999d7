// How each inode's data reaches the kernel in passthrough mode.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "fs/file_system.h"

namespace layerfs {

// The kernel takes all open files of an inode in one way only, through one backing file
// or through its page cache, and answers EIO to any other (fs/fuse/iomode.c). So the
// decision and the count are made under one lock, and counts are taken back only when
// the kernel has released: they are never below the kernel's.
//
// A file in a lower layer is opened through the page cache, since a backing file cannot
// be changed when a copy-up replaces the file; only a mount without an upper, where
// none can happen, passes its lowers through, by their read-only clones.
class OpenModes {
 public:
  // Registers a descriptor with the kernel; a value below 1 if it refuses.
  using Register = std::function<int(int fd)>;
  using Unregister = std::function<void(int backing_id)>;

  explicit OpenModes(FileSystem& fs) : fs_(fs) {}

  enum class Mode : std::uint64_t { Cached = 1, Passthrough = 2 };
  enum class Write : std::uint64_t { No = 0, Yes = 4 };
  struct Opened {
    Mode mode;
    int backing_id;        // passthrough only
    bool keep_cache;       // cached: what the kernel has of the file is still right
    std::uint64_t handle;  // to be given to release()
  };
  // Counts one open file.
  Result<Opened> open(NodeId node, Write write, const Register& register_fd);
  struct Released {
    bool was_writable_passthrough;
  };
  Released release(NodeId node, std::uint64_t handle, const Unregister& unregister);
  // Attributes that the kernel has of the node can change without its knowledge.
  bool may_change_unseen(NodeId node);
  // Files open for writing whose data is passed through.
  std::vector<NodeId> passthrough_writers();
  // Whether the file is open for writing, in either mode.
  bool has_writer(NodeId node);

 private:
  void count_writer(NodeId node, Mode mode, Write write);
  // True for the last one that was passed through.
  bool uncount_writer(NodeId node, bool passthrough);

  struct State {
    std::uint32_t cached = 0;
    std::uint32_t passthrough = 0;
    int backing_id = 0;
  };
  FileSystem& fs_;
  // Held while asking fs_, so taken before the tree lock.
  std::mutex mutex_;
  std::unordered_map<NodeId, State> states_;
  // A leaf: looked at under the tree lock too.
  std::mutex writers_mutex_;
  struct Writers {
    std::uint32_t cached = 0;
    std::uint32_t passthrough = 0;
  };
  std::unordered_map<NodeId, Writers> writers_;
};

}  // namespace layerfs
