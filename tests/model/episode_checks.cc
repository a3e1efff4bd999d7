// What is compared after an operation.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/model/episode_runner.h"

namespace layerfs::model {
namespace {

using K = OpKind;

// Half of the time, chosen by the operation itself so that a replay does the same: the
// comparison's own reads must not always warm the caches.
bool looks_at_content(const Op& op) { return (digest_of(to_text(op)) & 1U) != 0; }

}  // namespace

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

}  // namespace layerfs::model
