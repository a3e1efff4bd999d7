#include "tools/common/frozen_mount.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "layers/mount_config.h"
#include "layers/object_compare.h"
#include "layers/sys/syscalls.h"

namespace layerfs {
namespace {

// Each takes a process.
constexpr std::size_t kMostHeld = 500;
constexpr unsigned kMostTries = 20;
// Refused by the daemon when it comes to it, so it never is.
constexpr const char* kHoldingXattr = "user.overlay.held";

}  // namespace

Outcome<std::unique_ptr<FrozenMount>> FrozenMount::freeze(const MountEntry& mount,
                                                          const std::string& path,
                                                          const std::string& upper) {
  std::unique_ptr<FrozenMount> frozen(new FrozenMount(mount.mount_point));
  auto root = sys::open_path(path, O_RDONLY | O_DIRECTORY);
  auto top = sys::open_path(upper, O_PATH | O_DIRECTORY);
  if (!root || !top) {
    return failed("'" + (root ? upper : path) + "': " + describe((root ? top : root).error()));
  }
  frozen->root_ = std::move(*root);
  frozen->upper_ = std::move(*top);
  // Twice: what the first wait lets gather is little, and no writer waits yet.
  LFS_TRY(frozen->write_back());
  LFS_TRY(frozen->write_back());
  LFS_ASSIGN(frozen->talk_, ControlTalk::open(mount));
  LFS_ASSIGN(const nlohmann::json begun, frozen->talk_->ask(R"({"cmd":"freeze"})"));
  const nlohmann::json hold = begun.value("hold", nlohmann::json::array());
  if (hold.size() > kMostHeld) {
    return failed("'" + frozen->shown_ + "': " + std::to_string(hold.size()) +
                  " files are open for writing; stop who writes to them");
  }
  std::vector<std::string> paths;
  for (const auto& item : hold) {
    paths.push_back(bytes_from_json(item).value_or(""));
    LFS_TRY(frozen->hold(paths.back()));
  }
  for (;;) {
    if (begun.value("write_back", false)) {
      LFS_TRY(frozen->write_back());
    }
    LFS_ASSIGN(const nlohmann::json closed, frozen->talk_->ask(R"({"cmd":"close"})"));
    if (closed.value("frozen", false)) {
      break;
    }
  }
  for (const std::string& one : paths) {
    LFS_TRY(frozen->watch(one));
  }
  return frozen;
}

Outcome<void> FrozenMount::write_back() const {
  const auto written = sys::syncfs_fd(root_.get());
  return written ? Outcome<void>()
                 : failed("'" + shown_ +
                          "': cannot have it written back: " + describe(written.error()));
}

Outcome<void> FrozenMount::hold(const std::string& path) {
  const auto fd = sys::open_beneath(root_.get(), path, O_PATH | O_NOFOLLOW);
  if (!fd) {
    return is_absence(fd.error())
               ? Outcome<void>()
               : failed("'" + shown_ + "/" + path + "': cannot be held: " + describe(fd.error()));
  }
  const pid_t child = ::fork();
  if (child == 0) {
    // Only the parent's end of the conversation keeps the mount frozen.
    talk_->drop();
    ignore(sys::set_xattr({fd->get()}, kHoldingXattr, ""), "the answer is the end of the wait");
    ::_exit(0);
  }
  if (child < 0) {
    return failed("cannot start a process: " + describe(Errno::last()));
  }
  holders_.push_back(child);
  return {};
}

Outcome<void> FrozenMount::watch(const std::string& path) {
  auto fd = sys::open_beneath(upper_.get(), path, O_RDONLY | O_NONBLOCK);
  if (!fd) {
    // Nobody could tell whether it changes; but removed it cannot change any more.
    return is_absence(fd.error()) ? Outcome<void>()
                                  : failed("'" + shown_ + "/" + path +
                                           "': cannot be watched: " + describe(fd.error()));
  }
  for (unsigned tries = 0; tries < kMostTries; ++tries) {
    // Written out, its pages are read-only to mappings, and the next store sets the times;
    // unless it came before they were looked at again.
    const auto before = sys::stat_at({fd->get()});
    ignore(sys::fdatasync_fd(fd->get()), "it is not about what is on disk");
    const auto after = sys::stat_at({fd->get()});
    if (!before || !after) {
      return failed("'" + shown_ + "/" + path +
                    "': " + describe((before ? after : before).error()));
    }
    if (is_unchanged(*before, *after)) {
      watched_.push_back({path, std::move(*fd), *after});
      return {};
    }
  }
  return mapped(path);
}

Problem FrozenMount::mapped(const std::string& path) const {
  return failed("'" + shown_ + "/" + path +
                "' is written to through a memory mapping while it is read; stop who does that");
}

Outcome<void> FrozenMount::check_watched() const {
  for (const Watched& one : watched_) {
    const auto st = sys::stat_at({one.fd.get()});
    if (!st || !is_unchanged(*st, one.st)) {
      return mapped(one.path);
    }
  }
  return {};
}

Outcome<void> FrozenMount::thaw() {
  if (!talk_) {
    return {};
  }
  const auto same = check_watched();
  const auto answer = talk_->ask(R"({"cmd":"thaw"})");
  release();
  if (!same) {
    return same.error();
  }
  if (!answer) {
    return failed("'" + shown_ +
                  "': its changes cannot be held back for so long; stop who writes, unmount it, "
                  "and name its upper");
  }
  return {};
}

void FrozenMount::release() {
  talk_.reset();
  for (const pid_t holder : holders_) {
    while (::waitpid(holder, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  holders_.clear();
}

FrozenMount::~FrozenMount() { release(); }

}  // namespace layerfs
