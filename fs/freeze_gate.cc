#include "fs/freeze_gate.h"

#include <fcntl.h>
#include <linux/fuse.h>

#include <cstring>

namespace layerfs {
namespace {

// Of Linux 6.6, which the linux/fuse.h of Debian 12 lacks.
constexpr std::uint32_t kStatx = 52;

template <class T>
T read_at(std::string_view message, std::size_t offset) {
  T value{};
  if (offset + sizeof(T) <= message.size()) {
    std::memcpy(&value, message.data() + offset, sizeof(T));
  }
  return value;
}

fuse_in_header header_of(std::string_view message) { return read_at<fuse_in_header>(message, 0); }

// The name that starts there; requests end names in a zero byte.
std::string_view name_at(std::string_view message, std::size_t offset) {
  const std::string_view rest = message.substr(std::min(offset, message.size()));
  return rest.substr(0, rest.find('\0'));
}

constexpr std::size_t kBody = sizeof(fuse_in_header);

}  // namespace

FreezeGate::Kind FreezeGate::kind_of(std::string_view message) {
  switch (header_of(message).opcode) {
    case FUSE_GETATTR:
    case kStatx:
      return Kind::Begins;
    case FUSE_WRITE:
    // The kernel writes out times with the pages; and while a truncation waits for its
    // answer the kernel writes no page of the file (fs/fuse/file.c: fuse_set_nowrite).
    case FUSE_SETATTR:
      return Kind::Gathered;
    case FUSE_OPEN: {
      const auto flags = static_cast<int>(read_at<fuse_open_in>(message, kBody).flags);
      return (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC) != 0 ? Kind::Changes
                                                                       : Kind::Reads;
    }
    case FUSE_SYMLINK:
    case FUSE_MKNOD:
    case FUSE_MKDIR:
    case FUSE_UNLINK:
    case FUSE_RMDIR:
    case FUSE_RENAME:
    case FUSE_RENAME2:
    case FUSE_LINK:
    case FUSE_SETXATTR:
    case FUSE_REMOVEXATTR:
    case FUSE_CREATE:
    case FUSE_TMPFILE:
    case FUSE_FALLOCATE:
    case FUSE_COPY_FILE_RANGE:
    case FUSE_IOCTL:
      return Kind::Changes;
    default:
      return Kind::Reads;
  }
}

bool FreezeGate::holds_back(Kind kind, std::string_view message) const {
  const Phase phase = phase_.load();
  switch (kind) {
    case Kind::Reads:
      return false;
    case Kind::Begins:
      return phase == Phase::Settling && fs_.is_regular(header_of(message).nodeid);
    case Kind::Gathered:
      return phase == Phase::Closed;
    case Kind::Changes:
      return phase != Phase::Open;
  }
  return false;
}

std::optional<FreezeGate::Pass> FreezeGate::admit(std::string_view message) {
  const Kind kind = kind_of(message);
  if (kind == Kind::Reads || (kind == Kind::Begins && phase_.load() == Phase::Open)) {
    return Pass(nullptr);
  }
  // Counted before the phase is looked at, as close() sets the phase before it looks at
  // the count.
  active_.fetch_add(1);
  Pass pass(this);
  if (phase_.load() != Phase::Open) {
    const std::lock_guard lock(mutex_);
    if (holds_back(kind, message)) {
      kept_.emplace_back(message);
      pass.drop();
      active_.fetch_sub(1);
      idle_.notify_all();
      return std::nullopt;
    }
  }
  if (header_of(message).opcode == FUSE_WRITE) {
    writes_.fetch_add(1);
  }
  return pass;
}

void FreezeGate::leave() {
  active_.fetch_sub(1);
  if (phase_.load() != Phase::Open) {
    const std::lock_guard lock(mutex_);
    idle_.notify_all();
  }
}

FreezeGate::Kept FreezeGate::settle() {
  const std::lock_guard lock(mutex_);
  phase_ = Phase::Settling;
  Kept released;
  std::erase_if(kept_, [&](std::string& message) {
    const bool free = !holds_back(kind_of(message), message);
    if (free) {
      released.push_back(std::move(message));
    }
    return free;
  });
  return released;
}

Status FreezeGate::close(std::chrono::steady_clock::time_point deadline) {
  std::unique_lock lock(mutex_);
  phase_ = Phase::Closed;
  return idle_.wait_until(lock, deadline, [this] { return active_.load() == 0; })
             ? Status()
             : Status(Errno(ETIMEDOUT));
}

FreezeGate::Kept FreezeGate::open() {
  const std::lock_guard lock(mutex_);
  phase_ = Phase::Open;
  return std::exchange(kept_, {});
}

// Which inodes the kernel locks for a request: fs/open.c, fs/xattr.c, fs/namei.c
// (vfs_unlink, vfs_link, lock_two_nondirectories) and fs/fuse/file.c.
void FreezeGate::add_locked(std::string_view message, std::set<NodeId>& out) {
  const fuse_in_header header = header_of(message);
  const auto add_named = [&](NodeId parent, std::string_view name) {
    if (const NodeId node = fs_.known_child(parent, name); node != 0) {
      out.insert(node);
    }
  };
  const auto add_renamed = [&](std::size_t names) {
    const auto to = read_at<std::uint64_t>(message, kBody);
    const std::string_view from = name_at(message, names);
    add_named(header.nodeid, from);
    add_named(to, name_at(message, names + from.size() + 1));
  };
  switch (header.opcode) {
    case FUSE_SETXATTR:
    case FUSE_REMOVEXATTR:
    case FUSE_SETATTR:
    case FUSE_FALLOCATE:
      out.insert(header.nodeid);
      break;
    case FUSE_UNLINK:
      add_named(header.nodeid, name_at(message, kBody));
      break;
    case FUSE_RENAME:
      add_renamed(kBody + sizeof(fuse_rename_in));
      break;
    case FUSE_RENAME2:
      add_renamed(kBody + sizeof(fuse_rename2_in));
      break;
    case FUSE_LINK:
      out.insert(read_at<std::uint64_t>(message, kBody));
      break;
    default:
      break;
  }
}

std::set<NodeId> FreezeGate::locked() {
  Kept kept;
  {
    const std::lock_guard lock(mutex_);
    for (const std::string& message : kept_) {
      // Names and numbers are at the front; data of a write is not needed.
      if (header_of(message).opcode != FUSE_WRITE) {
        kept.push_back(message);
      }
    }
  }
  std::set<NodeId> out;
  for (const std::string& message : kept) {
    add_locked(message, out);
  }
  return out;
}

}  // namespace layerfs
