#include "tests/model/episode.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <linux/fs.h>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>
#include <unordered_set>

#include "tests/model/dir_watch.h"
#include "tests/model/layer_digest.h"
#include "tests/model/materialize.h"
#include "tests/model/reference_union.h"

namespace layerfs::model {
namespace {

using K = OpKind;

class Runner {
 public:
  Runner(const Episode& episode, const RunSettings& settings)
      : episode_(episode), settings_(settings), mounted_(settings.mount) {}
  ~Runner() { abandon(); }

  std::optional<Failure> run();

 private:
  struct SlotNote {
    std::string path;
    bool readable = false;
    bool writable = false;
  };

  Verdict set_up();
  Verdict mount_again(bool same_objects);
  Verdict take_down();
  Verdict check_lowers();
  void fresh_upper();
  void abandon();
  Verdict step(const Op& op);
  Verdict on_mount(const Op& op);
  Verdict remount();
  Verdict rotate();
  void give_every_link_a_name_above();
  void forget_caches();
  Verdict compare_all();
  Verdict after_path_op(const Op& op);
  Verdict after_slot_op(const Op& op);
  Verdict slot_content(std::int64_t slot, bool with_content);
  Verdict watch_directories(const Op& op, const Outcome& outcome);
  std::vector<std::uint64_t> about_to_die(const Op& op);
  void collect(const std::string& path, std::vector<std::uint64_t>& out);
  bool truncates_to_same_size(const Op& op);
  void settle_time(const Op& op);
  void allow_new_number(const std::string& path);
  void note_slot(const Op& op, const Outcome& outcome);
  void hold_open_objects();
  Verdict result_differs(const Op& op, const Outcome& expected, const Outcome& got);
  bool result_may_differ(const Op& op);
  void sabotage();
  void log_op(const Op& op);

  std::string at(const std::string& name) const { return settings_.dir + "/" + name; }
  std::string oracle_root() const { return at("oracle/t"); }
  std::string mount_root() const { return at("side/t"); }

  const Episode& episode_;
  const RunSettings& settings_;
  MountedTree mounted_;
  MountDirs dirs_;
  bool is_mounted_ = false;
  int uppers_ = 0;
  int log_ = -1;
  Side oracle_;
  Side mount_;
  std::optional<Comparer> compare_;
  std::vector<std::map<std::string, std::string>> lower_state_;
  std::array<SlotNote, kFileSlots> slots_;
  std::array<DirWatch, kDirSlots> watches_;
  // Inode numbers of the oracle's objects that have or had several names in a lower layer.
  std::unordered_set<std::uint64_t> linked_below_;
  std::int64_t done_ = 0;
};

bool is_reader(std::int64_t flags) { return (flags & O_ACCMODE) != O_WRONLY; }
bool is_writer(std::int64_t flags) { return (flags & O_ACCMODE) != O_RDONLY; }

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

void Runner::log_op(const Op& op) {
  const std::string line = to_text(op) + "\n";
  if (::write(log_, line.data(), line.size()) < 0) {
    return;
  }
}

std::optional<Failure> Runner::run() {
  if (Verdict verdict = set_up()) {
    return Failure{*verdict, 0};
  }
  if (Verdict verdict = compare_->tree(".")) {
    return Failure{*verdict, 0};
  }
  OpGenerator generator(episode_.seed, episode_.op_options);
  const bool generate = episode_.ops.empty();
  if (generate) {
    generator.look(oracle_.root());
  }
  const std::int64_t count =
      generate ? episode_.count : static_cast<std::int64_t>(episode_.ops.size());
  for (done_ = 0; done_ < count;) {
    const Op op = generate ? generator.next() : episode_.ops[static_cast<std::size_t>(done_)];
    ++done_;
    log_op(op);
    Outcome outcome;
    Verdict verdict;
    if (op.kind >= K::Compare) {
      verdict = on_mount(op);
    } else {
      const std::vector<std::uint64_t> dying = about_to_die(op);
      const bool keeps_size = truncates_to_same_size(op);
      Outcome got;
      if (episode_.init && (op.kind == K::Link || op.kind == K::LinkSlot || op.kind == K::Rename)) {
        // From or to a private path of the init layer: EXDEV, and nothing is done.
        got = mount_.run(op);
        outcome = got.error == EXDEV ? got : oracle_.run(op);
      } else {
        outcome = oracle_.run(op);
        got = mount_.run(op);
      }
      if (episode_.init && op.kind == K::Rename && outcome.error == 0) {
        allow_new_number(op.q);
      }
      note_slot(op, outcome);
      // Linux fs/fuse/file.c: fuse_file_fallocate updates the times before it asks.
      if (keeps_size || (op.kind == K::FAllocate && outcome.error != 0)) {
        settle_time(op);
      }
      if (outcome.error == 0 || op.kind == K::RemoveTree) {
        for (const std::uint64_t ino : dying) {
          compare_->forget(ino);
        }
      }
      verdict = watch_directories(op, outcome);
      if (Verdict differs = result_differs(op, outcome, got)) {
        verdict = differs;
      }
      if (!verdict) {
        verdict = step(op);
      }
    }
    if (verdict) {
      const std::string daemon = mounted_.daemon_state();
      if (!daemon.empty()) {
        verdict = Difference{"daemon died", daemon + " during " + to_text(op)};
      }
      return Failure{*verdict, done_};
    }
    if (generate) {
      generator.learn(op, outcome);
      if (op.kind == K::Compare || op.kind == K::Remount || op.kind == K::Rotate) {
        generator.look(oracle_.root());
      }
    }
    if (done_ == count / 2 && settings_.sabotage != Sabotage::None) {
      sabotage();
    }
  }
  Verdict verdict = compare_all();
  if (!verdict) {
    verdict = take_down();
  }
  return verdict ? std::optional<Failure>(Failure{*verdict, done_}) : std::nullopt;
}

bool Runner::result_may_differ(const Op& op) {
  if (op.kind != K::PRead && op.kind != K::MapRead && op.kind != K::CopyRange) {
    return false;
  }
  return settings_.stale_readers && !slots_[static_cast<std::size_t>(op.n[0])].writable;
}

Verdict Runner::result_differs(const Op& op, const Outcome& expected, const Outcome& got) {
  if (expected == got || (result_may_differ(op) && expected.error == got.error)) {
    return std::nullopt;
  }
  const std::string word = form_of(op.kind).word;
  if (settings_.compare.ignored.count("result of " + word) != 0) {
    return std::nullopt;
  }
  if (got.error == ENOTCONN || got.error == ECONNABORTED) {
    for (int i = 0; i < 1000; ++i) {
      const std::string daemon = mounted_.daemon_state();
      if (!daemon.empty()) {
        return Difference{"daemon died", daemon + " during " + to_text(op)};
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  }
  return Difference{"result of " + word,
                    to_text(op) + ": expected " + to_text(expected) + ", got " + to_text(got)};
}

// Whether that counts as a modification is each filesystem's own choice.
bool Runner::truncates_to_same_size(const Op& op) {
  struct stat st {};
  if (op.kind == K::Truncate) {
    return ::fstatat(oracle_.root(), op.p.c_str(), &st, 0) == 0 && st.st_size == op.n[0];
  }
  return op.kind == K::FTruncate && ::fstat(oracle_.file(op.n[0]), &st) == 0 &&
         st.st_size == op.n[1];
}

void Runner::settle_time(const Op& op) {
  Op touch;
  if (op.kind == K::Truncate) {
    // Through a symlink, if it is one.
    const struct timespec times[2] = {{1'000'000'000, 5}, {1'000'000'000, 5}};
    ::utimensat(oracle_.root(), op.p.c_str(), times, 0);
    ::utimensat(mount_.root(), op.p.c_str(), times, 0);
    return;
  }
  touch.kind = K::FUtimens;
  touch.n = {op.n[0], 0, 1'000'000'000, 5, 0};
  oracle_.run(touch);
  mount_.run(touch);
}

// What moves between the upper and the init layer becomes another inode (SEMANTICS.md, S-07).
void Runner::allow_new_number(const std::string& path) {
  struct stat st {};
  if (::fstatat(oracle_.root(), path.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0 &&
      !S_ISDIR(st.st_mode) && st.st_nlink == 1) {
    compare_->renumbered(st.st_ino);
  }
}

void Runner::note_slot(const Op& op, const Outcome& outcome) {
  if (op.kind == K::Open || op.kind == K::TmpFile) {
    SlotNote& note = slots_[static_cast<std::size_t>(op.n[0])];
    note = {};
    if (outcome.error == 0) {
      const std::int64_t flags = op.n[1];
      note = {op.kind == K::Open ? op.p : "", is_reader(flags), is_writer(flags)};
    }
  } else if (op.kind == K::Close) {
    slots_[static_cast<std::size_t>(op.n[0])] = {};
  }
  hold_open_objects();
}

void Runner::hold_open_objects() {
  compare_->release_all();
  struct stat st {};
  for (std::size_t i = 0; i < kFileSlots; ++i) {
    const int fd = oracle_.file(static_cast<std::int64_t>(i));
    if (fd >= 0 && ::fstat(fd, &st) == 0) {
      compare_->keep(st.st_ino);
    }
  }
  for (std::size_t i = 0; i < kDirSlots; ++i) {
    const int fd = oracle_.dir(static_cast<std::int64_t>(i));
    if (fd >= 0 && ::fstat(fd, &st) == 0) {
      compare_->keep(st.st_ino);
    }
  }
}

// Inode numbers of the oracle's objects that lose their last name or handle if the
// operation succeeds.
std::vector<std::uint64_t> Runner::about_to_die(const Op& op) {
  std::vector<std::uint64_t> out;
  struct stat st {};
  if (op.kind == K::RemoveTree) {
    collect(op.p, out);
  } else if (op.kind == K::Unlink || op.kind == K::Rmdir || op.kind == K::Rename) {
    const std::string& path = op.kind == K::Rename ? op.q : op.p;
    if (op.kind == K::Rename && op.n[0] != 0) {
      return out;
    }
    if (::fstatat(oracle_.root(), path.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        (S_ISDIR(st.st_mode) || st.st_nlink == 1)) {
      out.push_back(st.st_ino);
    }
  } else if (op.kind == K::Close || op.kind == K::Open || op.kind == K::TmpFile) {
    const int fd = oracle_.file(op.n[0]);
    if (fd >= 0 && ::fstat(fd, &st) == 0 && st.st_nlink == 0) {
      out.push_back(st.st_ino);
    }
  } else if (op.kind == K::CloseDir || op.kind == K::OpenDir) {
    const int fd = oracle_.dir(op.n[0]);
    if (fd >= 0 && ::fstat(fd, &st) == 0 && st.st_nlink == 0) {
      out.push_back(st.st_ino);
    }
  }
  return out;
}

void Runner::collect(const std::string& path, std::vector<std::uint64_t>& out) {
  struct stat st {};
  if (::fstatat(oracle_.root(), path.c_str(), &st, AT_SYMLINK_NOFOLLOW) < 0) {
    return;
  }
  out.push_back(st.st_ino);
  if (!S_ISDIR(st.st_mode)) {
    return;
  }
  std::vector<ListedName> names;
  const int fd = ::openat(oracle_.root(), path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  list_directory(fd, names);
  ::close(fd);
  for (const ListedName& entry : names) {
    if (entry.name != "." && entry.name != "..") {
      collect(join(path, entry.name), out);
    }
  }
}

Verdict Runner::watch_directories(const Op& op, const Outcome& outcome) {
  const auto slot = static_cast<std::size_t>(op.n[0]) % kDirSlots;
  const int fd = oracle_.dir(op.n[0]);
  if ((op.kind == K::OpenDir || op.kind == K::RewindDir) && outcome.error == 0) {
    watches_[slot].begin(fd);
  } else if (op.kind == K::OpenDir || op.kind == K::CloseDir) {
    watches_[slot].end();
  } else if (op.kind == K::ReadSome && outcome.error == 0) {
    return watches_[slot].read(mount_.last_read());
  } else if (changes_names(op.kind)) {
    for (std::size_t i = 0; i < kDirSlots; ++i) {
      if (oracle_.dir(static_cast<std::int64_t>(i)) >= 0) {
        watches_[i].changed(oracle_.dir(static_cast<std::int64_t>(i)), op);
      }
    }
  }
  return std::nullopt;
}

Verdict Runner::step(const Op& op) {
  if (op.kind >= K::OpenDir && op.kind <= K::CloseDir) {
    return std::nullopt;
  }
  if (op.kind == K::Statfs) {
    return compare_->statfs(op.p);
  }
  if (op.kind == K::SeekScan) {
    return compare_->holes(op.p);
  }
  Verdict verdict;
  if (form_of(op.kind).p) {
    verdict = after_path_op(op);
  }
  const bool has_slot =
      !form_of(op.kind).p || op.kind == K::LinkSlot || op.kind == K::Open || op.kind == K::TmpFile;
  return verdict || !has_slot ? verdict : after_slot_op(op);
}

// Half of the time, chosen by the operation itself so that a replay does the same: the
// comparison's own reads must not always warm the caches.
bool looks_at_content(const Op& op) { return (digest_of(to_text(op)) & 1U) != 0; }

Verdict Runner::after_path_op(const Op& op) {
  const auto content = looks_at_content(op) ? Comparer::Content::Yes : Comparer::Content::No;
  Verdict verdict = compare_->object(op.p, content);
  if (op.kind == K::List && !verdict) {
    verdict = compare_->listing(op.p);
  }
  if (!changes_names(op.kind)) {
    return verdict;
  }
  const bool two = op.kind == K::Link || op.kind == K::Rename;
  for (const std::string& path : {op.p, two ? op.q : op.p}) {
    if (!verdict) {
      verdict = compare_->object(path, content);
    }
    if (!verdict) {
      verdict = compare_->object(parent_of(path), Comparer::Content::No);
    }
    if (!verdict) {
      verdict = compare_->listing(parent_of(path));
    }
  }
  return verdict;
}

Verdict Runner::slot_content(std::int64_t slot, bool with_content) {
  const SlotNote& note = slots_[static_cast<std::size_t>(slot) % kFileSlots];
  const int oracle = oracle_.file(slot);
  const int mount = mount_.file(slot);
  if (oracle < 0 || mount < 0) {
    return std::nullopt;
  }
  const bool may_be_stale = settings_.stale_readers && !note.writable;
  return compare_->handles(oracle, mount, with_content && note.readable && !may_be_stale);
}

Verdict Runner::after_slot_op(const Op& op) {
  const bool content = looks_at_content(op);
  struct stat st {};
  const bool is_pipe = ::fstat(oracle_.file(op.n[0]), &st) == 0 && S_ISFIFO(st.st_mode);
  // What is written into a pipe the mount never hears of.
  if ((op.kind == K::MapWrite && settings_.stale_map_times) || is_pipe) {
    settle_time(op);
  }
  Verdict verdict = slot_content(op.n[0], content);
  if (op.kind == K::CopyRange && !verdict) {
    verdict = slot_content(op.n[1], content);
  }
  const SlotNote& note = slots_[static_cast<std::size_t>(op.n[0]) % kFileSlots];
  if (!verdict && !note.path.empty()) {
    verdict = compare_->object(note.path, content ? Comparer::Content::Yes : Comparer::Content::No);
  }
  return verdict;
}

Verdict Runner::compare_all() {
  Verdict verdict = compare_->tree(".");
  for (std::size_t i = 0; i < kFileSlots && !verdict; ++i) {
    verdict = slot_content(static_cast<std::int64_t>(i), true);
  }
  return verdict;
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

Verdict Runner::rotate() {
  give_every_link_a_name_above();
  Verdict verdict = compare_all();
  if (!verdict) {
    verdict = take_down();
  }
  if (verdict) {
    return verdict;
  }
  dirs_.lowers.insert(dirs_.lowers.begin(), dirs_.upper);
  remove_recursively(dirs_.work);
  forget_link_counts(dirs_.upper);
  lower_state_.insert(lower_state_.begin(), describe_layer(dirs_.upper));
  fresh_upper();
  verdict = mount_again(false);
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

void Runner::sabotage() {
  if (::fchdir(mount_.root()) < 0) {
    return;
  }
  const struct timespec old[2] = {{77, 0}, {77, 0}};
  // Only what a run leaves alone, so that it is the comparison that finds it.
  switch (settings_.sabotage) {
    case Sabotage::None:
      break;
    case Sabotage::Mode:
      ::chmod(".", 0712);
      break;
    case Sabotage::Owner:
      (void)!::chown(".", 4242, 0);
      break;
    case Sabotage::Time:
      ::utimensat(AT_FDCWD, ".", old, 0);
      break;
    case Sabotage::Name:
      ::mknod("zz", S_IFREG | 0600, 0);
      break;
    case Sabotage::Xattr:
      ::setxattr(".", "user.zz", "1", 1, 0);
      break;
    default: {
      // Needs an object of its own on both sides.
      for (const int root : {oracle_.root(), mount_.root()}) {
        (void)!::fchdir(root);
        const bool damaged = root == mount_.root();
        const int fd = ::open("zz", O_CREAT | O_RDWR | O_CLOEXEC, 0600);
        (void)!::pwrite(fd, damaged && settings_.sabotage == Sabotage::Content ? "x" : "y", 1,
                        5000);
        (void)!::ftruncate(fd, damaged && settings_.sabotage == Sabotage::Size ? 6000 : 6001);
        ::close(fd);
        (void)!::symlink(damaged && settings_.sabotage == Sabotage::Target ? "x" : "y", "zs");
        damaged&& settings_.sabotage == Sabotage::Link ? (void)::mknod("zl", 0100600, 0)
                                                       : (void)!::link("zz", "zl");
        ::utimensat(AT_FDCWD, "zz", old, 0);
        ::utimensat(AT_FDCWD, "zl", old, 0);
        ::utimensat(AT_FDCWD, ".", old, 0);
      }
    }
  }
}

}  // namespace

std::optional<Failure> run_episode(const Episode& episode, const RunSettings& settings) {
  return Runner(episode, settings).run();
}

}  // namespace layerfs::model
