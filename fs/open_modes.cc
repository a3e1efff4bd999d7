#include "fs/open_modes.h"

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
      const auto fd =
          fs_.data(node, in_writable ? FileSystem::Access::Write : FileSystem::Access::Read);
      if (!fd) {
        fs_.pins().unpin(node);
        return fd.error();
      }
      state.backing_id = register_fd((*fd)->get());
    }
    if (state.backing_id > 0) {
      ++state.passthrough;
      if (write == Write::Yes) {
        const std::lock_guard writers_lock(writers_mutex_);
        ++writers_[node];
      }
      return Opened{Mode::Passthrough, state.backing_id, false,
                    handle_of(Mode::Passthrough, write)};
    }
    state.backing_id = 0;
    fs_.pins().unpin(node);
  }
  ++state.cached;
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
  bool last_writer = false;
  if (is_passthrough(handle)) {
    --state.passthrough;
    if (is_writer(handle)) {
      const std::lock_guard writers_lock(writers_mutex_);
      last_writer = --writers_[node] == 0;
      if (last_writer) {
        writers_.erase(node);
      }
    }
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
  return {last_writer};
}

bool OpenModes::may_change_unseen(NodeId node) {
  const std::lock_guard lock(writers_mutex_);
  return writers_.contains(node);
}

}  // namespace layerfs
