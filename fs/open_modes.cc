#include "fs/open_modes.h"

#include <cerrno>

namespace layerfs {
namespace {

std::uint64_t handle_of(OpenModes::Mode mode, OpenModes::Write write) {
  return static_cast<std::uint64_t>(mode) | static_cast<std::uint64_t>(write);
}
bool is_passthrough(std::uint64_t handle) {
  return (handle & static_cast<std::uint64_t>(OpenModes::Mode::Passthrough)) != 0;
}
bool is_writer(std::uint64_t handle) {
  return (handle & static_cast<std::uint64_t>(OpenModes::Write::Yes)) != 0;
}

}  // namespace

Result<OpenModes::Opened> OpenModes::open(NodeId node, Write write, const Register& register_fd) {
  if (write == Write::Yes) {
    // Before the lock: a copy-up may take long.
    LFS_ASSIGN(const SharedFd copied, fs_.data(node, FileSystem::Access::Write));
  }
  const std::lock_guard lock(mutex_);
  State& state = states_[node];
  const bool in_writable = fs_.is_writable_data(node);
  if (state.cached == 0 && (in_writable || fs_.is_read_only())) {
    if (state.backing_id == 0) {
      fs_.pins().pin(node);
      auto fd = fs_.data(node, in_writable ? FileSystem::Access::Write : FileSystem::Access::Read);
      if (!fd && write == Write::No &&
          (is_not_permitted(fd.error()) || fd.error().value() == EROFS)) {
        // An immutable file, or an upper that has become read-only. The kernel opens the backing
        // file with each caller's own flags.
        fd = fs_.data(node, FileSystem::Access::Read);
      }
      if (!fd) {
        fs_.pins().unpin(node);
        return fd.error();
      }
      state.backing_id = register_fd((*fd)->get());
    }
    if (state.backing_id > 0) {
      ++state.passthrough;
      count_writer(node, Mode::Passthrough, write);
      return Opened{Mode::Passthrough, state.backing_id, false,
                    handle_of(Mode::Passthrough, write)};
    }
    state.backing_id = 0;
    fs_.pins().unpin(node);
  }
  ++state.cached;
  count_writer(node, Mode::Cached, write);
  // What was passed through went past the page cache, which may be old.
  return Opened{Mode::Cached, 0, !in_writable, handle_of(Mode::Cached, write)};
}

OpenModes::Released OpenModes::release(NodeId node, std::uint64_t handle,
                                       const Unregister& unregister) {
  const std::lock_guard lock(mutex_);
  const auto it = states_.find(node);
  if (it == states_.end()) {
    return {false};
  }
  State& state = it->second;
  if (is_passthrough(handle)) {
    --state.passthrough;
    if (state.passthrough == 0 && state.backing_id > 0) {
      unregister(state.backing_id);
      state.backing_id = 0;
      fs_.pins().unpin(node);
    }
  } else {
    --state.cached;
  }
  if (state.cached == 0 && state.passthrough == 0) {
    states_.erase(it);
  }
  return {is_writer(handle) && uncount_writer(node, is_passthrough(handle))};
}

void OpenModes::count_writer(NodeId node, Mode mode, Write write) {
  if (write == Write::Yes) {
    const std::lock_guard lock(writers_mutex_);
    Writers& writers = writers_[node];
    ++(mode == Mode::Passthrough ? writers.passthrough : writers.cached);
  }
}

bool OpenModes::uncount_writer(NodeId node, bool passthrough) {
  const std::lock_guard lock(writers_mutex_);
  Writers& writers = writers_[node];
  const bool last = --(passthrough ? writers.passthrough : writers.cached) == 0;
  if (writers.passthrough == 0 && writers.cached == 0) {
    writers_.erase(node);
  }
  return passthrough && last;
}

bool OpenModes::may_change_unseen(NodeId node) {
  const std::lock_guard lock(writers_mutex_);
  const auto found = writers_.find(node);
  return found != writers_.end() && found->second.passthrough > 0;
}

std::vector<NodeId> OpenModes::passthrough_writers() {
  const std::lock_guard lock(writers_mutex_);
  std::vector<NodeId> out;
  for (const auto& [node, writers] : writers_) {
    if (writers.passthrough > 0) {
      out.push_back(node);
    }
  }
  return out;
}

bool OpenModes::has_writer(NodeId node) {
  const std::lock_guard lock(writers_mutex_);
  return writers_.contains(node);
}

}  // namespace layerfs
