// What is mounted when.
#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "tests/model/episode_runner.h"
#include "tests/model/layer_digest.h"
#include "tests/model/materialize.h"
#include "tests/model/reference_union.h"

namespace layerfs::model {
namespace {

using K = OpKind;

}  // namespace

void Runner::fresh_upper() {
  const std::string number = std::to_string(uppers_++);
  dirs_.upper = at("u" + number);
  dirs_.work = at("w" + number);
  ::mkdir(dirs_.upper.c_str(), 0755);
  ::mkdir(dirs_.work.c_str(), 0755);
  copy_directory_attributes(oracle_root(), dirs_.upper);
}

Verdict Runner::set_up() {
  ::umask(0);
  ::mkdir(at("oracle").c_str(), 0755);
  ::mkdir(at("side").c_str(), 0755);
  log_ = ::open(at("ops.log").c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
  const MergedTree merged = merge_layers(episode_.layers, episode_.init);
  write_merged(oracle_root(), at("ghosts"), merged);
  if (settings_.mount.kind == FsKind::Plain && settings_.mount.mount_command.empty()) {
    write_merged(mount_root(), at("ghosts2"), merged);
  } else {
    ::mkdir(mount_root().c_str(), 0755);
  }
  for (std::size_t i = 0; i < episode_.layers.size(); ++i) {
    const std::string root = at("l" + std::to_string(i));
    write_layer(root, episode_.layers[i]);
    if (i == 0 && episode_.init) {
      dirs_.init = root;
    } else {
      dirs_.lowers.push_back(root);
      lower_state_.push_back(describe_layer(root));
    }
  }
  dirs_.mountpoint = mount_root();
  dirs_.log = at("daemon.log");
  fresh_upper();
  if (!oracle_.attach(oracle_root())) {
    return Difference{"harness", "cannot open the oracle"};
  }
  for (const int hidden : merged.hidden_names) {
    counts_hidden_names_ = counts_hidden_names_ || hidden != 0;
  }
  for (const std::vector<std::string>& names : merged.links) {
    struct stat st {};
    if (::fstatat(oracle_.root(), names.front().c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0) {
      linked_below_.insert(st.st_ino);
    }
  }
  return mount_again(false);
}

Verdict Runner::mount_again(bool same_objects) {
  if (std::string error = mounted_.mount(dirs_); !error.empty()) {
    return Difference{"mount", error};
  }
  is_mounted_ = true;
  if (!mount_.attach(mount_root())) {
    return Difference{"mount", std::string("the root does not open: ") + std::strerror(errno)};
  }
  struct stat st {};
  if (::fstat(mount_.root(), &st) == 0) {
    // For the watcher of this process, should a request hang.
    const int fd = ::open(at("minor").c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
    ::dprintf(fd, "%u %d\n", minor(st.st_dev), mounted_.daemon_pid());
    ::close(fd);
  }
  if (compare_) {
    compare_->reattach(oracle_.root(), mount_.root(), same_objects);
  } else {
    compare_.emplace(oracle_.root(), mount_.root(), settings_.compare);
  }
  return std::nullopt;
}

Verdict Runner::take_down() {
  forget_orphans();
  mount_.detach();
  oracle_.detach();
  slots_.fill({});
  for (DirWatch& watch : watches_) {
    watch.end();
  }
  is_mounted_ = false;
  if (std::string error = mounted_.unmount(); !error.empty()) {
    is_mounted_ = true;
    return Difference{"unmount", error};
  }
  oracle_.attach(oracle_root());
  return check_lowers();
}

Verdict Runner::check_lowers() {
  if (settings_.mount.kind == FsKind::Plain) {
    return std::nullopt;
  }
  for (std::size_t i = 0; i < dirs_.lowers.size(); ++i) {
    const std::string change = first_difference(lower_state_[i], describe_layer(dirs_.lowers[i]));
    if (!change.empty()) {
      return Difference{"lower layer written", dirs_.lowers[i] + ": " + change};
    }
  }
  return std::nullopt;
}

void Runner::abandon() {
  mount_.detach();
  oracle_.detach();
  ::close(log_);
  if (is_mounted_ && settings_.mount.kind != FsKind::Plain) {
    ::umount2(mount_root().c_str(), MNT_DETACH);
    if (mounted_.daemon_pid() > 0) {
      for (int i = 0; i < 500 && mounted_.daemon_state().empty(); ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
      }
      if (mounted_.daemon_pid() > 0) {
        ::kill(mounted_.daemon_pid(), SIGKILL);
      }
    }
  }
}

Verdict Runner::on_mount(const Op& op) {
  switch (op.kind) {
    case K::Compare:
      return compare_all();
    case K::DropCaches:
      forget_caches();
      return std::nullopt;
    case K::Rotate:
      return episode_.init || settings_.mount.kind == FsKind::Plain ? remount() : rotate();
    default:
      return remount();
  }
}

Verdict Runner::remount() {
  Verdict verdict = take_down();
  if (!verdict) {
    verdict = mount_again(true);
  }
  return verdict ? verdict : compare_all();
}

// Afterwards the upper tells everything without its work directory.
Verdict Runner::take_down_for_good() {
  give_every_link_a_name_above();
  Verdict verdict = compare_all();
  if (!verdict) {
    verdict = take_down();
  }
  if (!verdict && settings_.verify_with_overlayfs && !counts_hidden_names_) {
    verdict = overlayfs_agrees();
  }
  return verdict;
}

Verdict Runner::overlayfs_agrees() {
  MountSettings settings;
  settings.kind = FsKind::Overlay;
  settings.read_only = true;
  MountDirs dirs = dirs_;
  dirs.mountpoint = at("overlayfs");
  ::mkdir(dirs.mountpoint.c_str(), 0755);
  MountedTree overlayfs(settings);
  if (std::string error = overlayfs.mount(dirs); !error.empty()) {
    return Difference{"overlayfs", error};
  }
  const int root = ::open(dirs.mountpoint.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  CompareOptions options = settings_.compare;
  // What kernel overlayfs documents as its own way. A link count has one more: the name in
  // our index.
  options.ignored.insert("nlink");
  options.directory_nlink = false;
  options.inode_numbers = false;
  options.listed_inode_numbers = false;
  options.device_numbers = false;
  Verdict verdict = Comparer(oracle_.root(), root, options).tree(".");
  ::close(root);
  if (::chdir("/") < 0 || !overlayfs.unmount().empty()) {
    ::umount2(dirs.mountpoint.c_str(), MNT_DETACH);
  }
  if (verdict) {
    verdict->kind = "overlayfs: " + verdict->kind;
  }
  return verdict;
}

Verdict Runner::rotate() {
  if (Verdict verdict = take_down_for_good()) {
    return verdict;
  }
  dirs_.lowers.insert(dirs_.lowers.begin(), dirs_.upper);
  remove_recursively(dirs_.work);
  forget_link_counts(dirs_.upper);
  lower_state_.insert(lower_state_.begin(), describe_layer(dirs_.upper));
  fresh_upper();
  Verdict verdict = mount_again(false);
  return verdict ? verdict : compare_all();
}

// The index that ties the names of a copied-up hard link together belongs to the work
// directory and does not become part of the layer: give each name its own entry above.
void Runner::give_every_link_a_name_above() {
  std::vector<std::string> pending{"."};
  while (!pending.empty()) {
    const std::string dir = pending.back();
    pending.pop_back();
    const int fd =
        ::openat(oracle_.root(), dir.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    std::vector<ListedName> names;
    list_directory(fd, names);
    ::close(fd);
    for (const ListedName& entry : names) {
      const std::string path = join(dir, entry.name);
      struct stat st {};
      if (entry.name == "." || entry.name == ".." ||
          ::fstatat(oracle_.root(), path.c_str(), &st, AT_SYMLINK_NOFOLLOW) < 0) {
        continue;
      }
      if (S_ISDIR(st.st_mode)) {
        pending.push_back(path);
      } else if (st.st_nlink > 1 || linked_below_.count(st.st_ino) != 0) {
        linked_below_.insert(st.st_ino);
        Op away;
        away.kind = K::Rename;
        away.p = path;
        away.q = "rotating";
        Op back = away;
        std::swap(back.p, back.q);
        for (const Op& op : {away, back}) {
          oracle_.run(op);
          mount_.run(op);
        }
      }
    }
  }
}

// A remount in place drops the unused dentries and with them the inodes of this mount
// alone; /proc/sys/vm/drop_caches would do it to the whole machine.
void Runner::forget_caches() {
  struct statvfs st {};
  if (settings_.mount.kind != FsKind::Plain && ::statvfs(mount_root().c_str(), &st) == 0) {
    const unsigned long flags = st.f_flag & (MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME);
    if (::mount(nullptr, mount_root().c_str(), nullptr, MS_REMOUNT | flags, nullptr) < 0) {
      return;
    }
  }
}

}  // namespace layerfs::model
