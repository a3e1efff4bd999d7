#include "layers/workdir.h"

#include <fcntl.h>
#include <sys/random.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <thread>

#include "layers/acl.h"
#include "layers/link_index.h"
#include "layers/sys/bulk.h"

namespace layerfs {
namespace {

using namespace std::chrono_literals;

constexpr const char* kWork = "work";
constexpr const char* kIncompat = "incompat";
constexpr const char* kVolatile = "volatile";

Failure failure(const std::string& path, Errno error, const char* remedy) {
  return {"work directory " + path + ": " + describe(error) + "; " + remedy};
}

Result<UniqueFd> make_directory(int parent, const char* name, bool& is_new) {
  const auto made = sys::mkdir_at({parent, name}, 0700);
  if (!made && made.error().value() != EEXIST) {
    return made.error();
  }
  is_new = made.ok();
  return sys::open_at({parent, name}, O_RDONLY | O_DIRECTORY);
}

Status empty(int dir) {
  LFS_ASSIGN(const auto names, sys::names_in(dir));
  for (const std::string& name : names) {
    LFS_TRY(sys::remove_nameless({dir, name.c_str()}));
  }
  return {};
}

Result<bool> has_volatile_mark(int work) {
  auto dir = sys::open_at({work, kIncompat}, O_PATH | O_DIRECTORY);
  if (!dir) {
    return is_absence(dir.error()) ? Result<bool>(false) : Result<bool>(dir.error());
  }
  LFS_ASSIGN(const auto mark, sys::try_stat_at({dir->get(), kVolatile}));
  return mark.has_value();
}

Status set_volatile_mark(int work) {
  bool is_new = false;
  LFS_ASSIGN(const UniqueFd incompat, make_directory(work, kIncompat, is_new));
  LFS_TRY(sys::mkdir_at({incompat.get(), kVolatile}, 0700));
  return sys::fsync_fd(incompat.get());
}

// The kernel's session of temporary names differs from every earlier one.
std::string random_session() {
  std::uint64_t value = 0;
  if (::getrandom(&value, sizeof(value), 0) != static_cast<ssize_t>(sizeof(value))) {
    value =
        static_cast<std::uint64_t>(::getpid()) << 32U ^ static_cast<std::uint64_t>(::time(nullptr));
  }
  std::array<char, 20> text{};
  std::snprintf(text.data(), text.size(), "%016llx", static_cast<unsigned long long>(value));
  return text.data();
}

// A rename across two mounts is EXDEV even on one filesystem, and a read-only mount is
// EROFS; the kernel says both before it looks for the name, so nothing is touched
// (fs/namei.c: do_renameat2).
Status try_rename_into(int work, int layer) {
  constexpr const char* kNobody = "#layerfs-no-such-name";
  const auto moved = sys::rename_at({work, kNobody}, {layer, kNobody});
  if (!moved && moved.error().value() != ENOENT) {
    return moved.error();
  }
  return sys::check_writable_directory(layer);
}

// What is built in a directory would get its default ACL.
Status drop_default_acl(int dir) {
  const auto removed = sys::remove_xattr({dir}, kAclDefaultXattr);
  if (!removed && removed.error().value() != ENODATA && removed.error().value() != EOPNOTSUPP) {
    return removed.error();
  }
  return {};
}

// umount(2) does not wait for the daemon: that of a mount which has just ended may hold the
// lock a moment longer.
Result<bool> lock_unless_held(int fd) {
  constexpr auto kPause = 10ms;
  for (auto left = 1500ms / kPause;; --left) {
    LFS_ASSIGN(const bool locked, sys::try_lock_exclusive(fd));
    if (locked || left == 0) {
      return locked;
    }
    std::this_thread::sleep_for(kPause);
  }
}

}  // namespace

Workdir::Workdir(Workdir&& other) noexcept
    : path_(std::move(other.path_)),
      lock_(std::move(other.lock_)),
      layer_lock_(std::move(other.layer_lock_)),
      work_(std::move(other.work_)),
      index_(std::move(other.index_)),
      durability_(other.durability_),
      session_(std::move(other.session_)),
      next_(other.next_.load()) {}

void FreshWork::take_back() {
  const auto remove = [](sys::At at) {
    ignore(sys::unlink_at(at, sys::UnlinkKind::Directory), "in use: it stays");
  };
  if (layer_mark_ != nullptr) {
    ignore(sys::remove_xattr({layer_.get()}, layer_mark_), "it says what is true of the root");
  }
  layer_.reset();
  if (!lock_) {
    return;
  }
  if (volatile_mark_) {
    remove({lock_.get(), "work/incompat/volatile"});
    remove({lock_.get(), "work/incompat"});
  }
  if (work_) {
    remove({lock_.get(), kWork});
  }
  if (index_) {
    remove({lock_.get(), kLinkIndexName});
  }
  if (root_) {
    remove({AT_FDCWD, path_.c_str()});
  }
  lock_.reset();
}

Status FreshWork::mark_layer(const char* name, std::string_view value) {
  LFS_TRY(sys::set_xattr({layer_.get()}, name, value));
  layer_mark_ = name;
  return {};
}

Result<Workdir, Failure> Workdir::open(const std::string& path, const Layer& layer,
                                       Durability durability, FreshWork* fresh, Unclean unclean) {
  FreshWork made;
  auto opened = open_noting(path, layer, durability, made, unclean);
  if (!opened) {
    made.take_back();
  } else if (fresh != nullptr) {
    *fresh = std::move(made);
  }
  return opened;
}

Result<Workdir, Failure> Workdir::open_noting(const std::string& path, const Layer& layer,
                                              Durability durability, FreshWork& fresh,
                                              Unclean unclean) {
  Workdir dir;
  dir.path_ = path;
  dir.durability_ = durability;
  dir.session_ = random_session();
  const auto created = sys::mkdir_at({AT_FDCWD, path.c_str()}, 0700);
  if (!created && created.error().value() != EEXIST) {
    return failure(path, created.error(), "name one with --work on the filesystem of the upper");
  }
  auto root = sys::open_path(path, O_RDONLY | O_DIRECTORY);
  if (!root) {
    return failure(path, root.error(), "name another with --work");
  }
  dir.lock_ = std::move(*root);
  fresh.path_ = path;
  fresh.root_ = created.ok();
  auto lock = sys::dup_fd(dir.lock_.get());
  if (!lock) {
    return failure(path, lock.error(), "raise the limit of open files (ulimit -n)");
  }
  fresh.lock_ = std::move(*lock);
  const auto inside = is_inside(dir.lock_.get(), layer.root.get());
  const auto around = is_inside(layer.root.get(), dir.lock_.get());
  if (!inside || !around) {
    return failure(path, !inside ? inside.error() : around.error(), "name another with --work");
  }
  if (*inside || *around) {
    return Failure{"work directory " + path + " and " + layer.path +
                   " overlap; use separate directories on one filesystem"};
  }
  auto layer_fd = sys::open_at({layer.root.get(), "."}, O_RDONLY | O_DIRECTORY);
  if (!layer_fd) {
    return Failure{"directory " + layer.path + ": " + describe(layer_fd.error())};
  }
  auto to_mark = sys::dup_fd(layer_fd->get());
  if (!to_mark) {
    return failure(path, to_mark.error(), "raise the limit of open files (ulimit -n)");
  }
  fresh.layer_ = std::move(*to_mark);
  dir.layer_lock_ = std::move(*layer_fd);
  for (const auto& [fd, what] :
       {std::pair{dir.lock_.get(), "work directory " + path},
        std::pair{dir.layer_lock_.get(), "upper directory " + layer.path}}) {
    const auto locked = lock_unless_held(fd);
    if (!locked) {
      return Failure{what + ": cannot lock it: " + describe(locked.error())};
    }
    if (!*locked) {
      fresh.root_ = fresh.root_ && fd != dir.lock_.get();  // else it is the other's
      return Failure{what +
                     " is in use by another mount; unmount that first, or give this "
                     "mount its own"};
    }
  }
  auto work = make_directory(dir.lock_.get(), kWork, fresh.work_);
  auto index = make_directory(dir.lock_.get(), kLinkIndexName, fresh.index_);
  if (!work || !index) {
    return failure(path, !work ? work.error() : index.error(),
                   "it must be writable, on a filesystem with free space");
  }
  dir.work_ = std::move(*work);
  dir.index_ = std::move(*index);
  const auto was_volatile = has_volatile_mark(dir.work_.get());
  if (!was_volatile) {
    return failure(path, was_volatile.error(), "name another with --work");
  }
  if (*was_volatile && unclean == Unclean::Refuse) {
    return Failure{"upper directory " + layer.path +
                   " was used by a volatile mount that did not "
                   "end cleanly, its content may be incomplete; discard it, or accept it by "
                   "removing " +
                   path + "/work/incompat/volatile"};
  }
  if (const auto swept = empty(dir.work_.get()); !swept) {
    return failure(path, swept.error(), "it must be writable");
  }
  if (const auto dropped = drop_default_acl(dir.work_.get()); !dropped) {
    return failure(path, dropped.error(), "it must be writable");
  }
  if (const auto renamed = try_rename_into(dir.work_.get(), dir.layer_lock_.get()); !renamed) {
    if (renamed.error().value() == EXDEV) {
      return Failure{"work directory " + path + " is not on the same filesystem as " + layer.path +
                     "; name one with --work that is"};
    }
    return Failure{layer.path + ": cannot be written: " + describe(renamed.error()) +
                   "; mount without an upper for a read-only view"};
  }
  if (durability == Durability::Volatile) {
    fresh.volatile_mark_ = true;
    if (const auto marked = set_volatile_mark(dir.work_.get()); !marked) {
      return failure(path, marked.error(), "it must be writable");
    }
  }
  return dir;
}

std::string Workdir::temp_name() {
  std::array<char, 24> number{};
  std::snprintf(number.data(), number.size(), "-%llx",
                static_cast<unsigned long long>(next_.fetch_add(1, std::memory_order_relaxed)));
  return "#" + session_ + number.data();
}

Status Workdir::finish() {
  if (durability_ == Durability::Discarded) {
    return {};
  }
  if (durability_ == Durability::Volatile) {
    LFS_TRY(sys::syncfs_fd(work_.get()));
  }
  return empty(work_.get());
}

TempEntry::~TempEntry() {
  if (!name_.empty()) {
    ignore(sys::remove_tree(at()), "swept at the next mount");
  }
}

}  // namespace layerfs
