#include "tests/model/episode.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <string_view>
#include <thread>

#include "tests/model/episode_runner.h"
#include "tests/model/sabotage.h"

namespace layerfs::model {
namespace {

using K = OpKind;

constexpr std::string_view kAclAccess = "system.posix_acl_access";

bool is_reader(std::int64_t flags) { return (flags & O_ACCMODE) != O_WRONLY; }
bool is_writer(std::int64_t flags) { return (flags & O_ACCMODE) != O_RDONLY; }

}  // namespace

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
      if (may_be_refused(op)) {
        got = mount_.run(op);
        outcome = got.error == EXDEV ? got : run_in_oracle(op);
      } else {
        outcome = run_in_oracle(op);
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
      const bool closes = op.kind == K::Open || op.kind == K::TmpFile || op.kind == K::OpenDir;
      if (outcome.error == 0 || op.kind == K::RemoveTree || closes) {
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
      sabotage(settings_.sabotage, oracle_.root(), mount_.root());
    }
  }
  Verdict verdict = compare_all();
  if (!verdict) {
    verdict = settings_.verify_with_overlayfs ? take_down_for_good() : take_down();
  }
  return verdict ? std::optional<Failure>(Failure{*verdict, done_}) : std::nullopt;
}

Outcome Runner::run_in_oracle(const Op& op) {
  struct stat before {};
  const bool removes_acl =
      op.kind == K::RemoveXattr && kXattrNames[static_cast<std::size_t>(op.n[0])] == kAclAccess &&
      ::fstatat(oracle_.root(), op.p.c_str(), &before, AT_SYMLINK_NOFOLLOW) == 0;
  const Outcome outcome = oracle_.run(op);
  if (removes_acl && outcome.error == 0 && !S_ISLNK(before.st_mode)) {
    // It may cost set-group-id on tmpfs (fs/posix_acl.c: simple_set_acl), never on ext4
    // (fs/ext4/acl.c: ext4_set_acl).
    (void)!::fchmodat(oracle_.root(), op.p.c_str(), before.st_mode & 07777U, 0);
  }
  return outcome;
}

// EXDEV, and nothing is done: from or to a private path of the init layer, or a directory
// with parts in a layer below that no redirect can tell of.
bool Runner::may_be_refused(const Op& op) const {
  if (op.kind == K::Rename) {
    return episode_.init || settings_.mount.has_option("redirect=off");
  }
  return episode_.init && (op.kind == K::Link || op.kind == K::LinkSlot);
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
    compare_->forget(st.st_ino);
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
}

std::vector<int> Runner::open_in_oracle() const {
  std::vector<int> out;
  for (std::size_t i = 0; i < kFileSlots; ++i) {
    out.push_back(oracle_.file(static_cast<std::int64_t>(i)));
  }
  for (std::size_t i = 0; i < kDirSlots; ++i) {
    out.push_back(oracle_.dir(static_cast<std::int64_t>(i)));
  }
  std::erase(out, -1);
  return out;
}

// What has no name goes when its last descriptor is closed.
void Runner::forget_orphans() {
  struct stat st {};
  for (const int fd : open_in_oracle()) {
    if (::fstat(fd, &st) == 0 && st.st_nlink == 0) {
      compare_->forget(st.st_ino);
    }
  }
}

// Inode numbers of the oracle's objects that lose their last name or handle if the
// operation succeeds.
std::vector<std::uint64_t> Runner::about_to_die(const Op& op) {
  std::vector<std::uint64_t> out;
  struct stat st {};
  int closing = -1;
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
    closing = oracle_.file(op.n[0]);
  } else if (op.kind == K::CloseDir || op.kind == K::OpenDir) {
    closing = oracle_.dir(op.n[0]);
  }
  if (closing >= 0 && ::fstat(closing, &st) == 0 && st.st_nlink == 0) {
    out.push_back(st.st_ino);
  }
  for (const int fd : open_in_oracle()) {
    if (fd != closing && ::fstat(fd, &st) == 0) {
      std::erase(out, st.st_ino);
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

std::optional<Failure> run_episode(const Episode& episode, const RunSettings& settings) {
  return Runner(episode, settings).run();
}

}  // namespace layerfs::model
