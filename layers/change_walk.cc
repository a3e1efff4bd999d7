#include "layers/change_walk.h"

#include <algorithm>
#include <memory>

#include "layers/link_tally.h"
#include "layers/path_text.h"

namespace layerfs {
namespace {

// Up to so many names of a directory are looked up below one by one; for more, the
// directory below is listed.
constexpr std::size_t kMostProbes = 8;
// It is given up when so many entries were read for each of those names: the time is to
// follow the changes, and looking a name up takes as long as reading some entries.
constexpr std::uint64_t kListedForOne = 16;
// Directories above the one at hand that may keep their descriptors.
constexpr std::size_t kMostOpen = 64;
// Those that may keep the buffers of long lists of names.
constexpr std::size_t kMostReading = 8;

using Outcome = Result<void, Failure>;

// Turns a Result of the layers into one that names the path.
#define LFS_ASSIGN_AT(target, path, expr)                            \
  auto LFS_CONCAT(lfs_at_, __LINE__) = (expr);                       \
  if (!LFS_CONCAT(lfs_at_, __LINE__)) {                              \
    return cannot_read(path, LFS_CONCAT(lfs_at_, __LINE__).error()); \
  }                                                                  \
  target = std::move(LFS_CONCAT(lfs_at_, __LINE__)).value()

bool same_source(const DirSource& a, const DirSource& b) {
  return a.layer == b.layer && a.path.text() == b.path.text();
}

bool same_sources(const std::vector<DirSource>& a, const std::vector<DirSource>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), same_source);
}

struct Nothing {};

// A name of either tree.
struct Name {
  std::string text;
  std::optional<MergedName> now;  // nullopt: the new tree has it no more
  // Where the directory below was listed; nullopt: it has no such name.
  std::optional<MergedName> before;
};

// The names of one merged directory, with the first of those that are left.
class NameStream {
 public:
  NameStream() = default;
  explicit NameStream(std::unique_ptr<MergedNames> names) : names_(std::move(names)) {}
  explicit operator bool() const { return names_ != nullptr; }
  MergedNames& names() { return *names_; }

  Result<const MergedName*, Failure> head() {
    if (!is_read_) {
      LFS_ASSIGN(head_, names_->next());
      is_read_ = true;
    }
    return head_ ? &*head_ : nullptr;
  }
  MergedName take() {
    is_read_ = false;
    return *head_;
  }
  void rewind() {
    names_->rewind();
    is_read_ = false;
  }

 private:
  std::unique_ptr<MergedNames> names_;
  std::optional<MergedName> head_;
  bool is_read_ = false;
};

enum class Pass { Deleted, Present, All };

struct Frame {
  ViewEntry entry;  // of the directory in the new tree
  std::optional<ViewEntry> before;
  ViewDirectory now_dir;
  ViewDirectory before_dir;
  std::size_t path_size = 0;
  bool announced = false;
  bool aligned = false;  // both trees have the same lower directories
  Pass pass = Pass::All;
  NameStream now_names;
  NameStream before_names;  // null where names are looked up one by one

  void rest() {
    now_names.names().rest();
    if (before_names) {
      before_names.names().rest();
    }
  }
};

class Walk {
 public:
  Walk(const MergedView& before, const MergedView& now, const ChangeOptions& options,
       const ChangeVisitor& visit)
      : before_(before),
        now_(now),
        options_(options),
        visit_(visit),
        shared_(&before.stack() == &now.stack()),
        split_(shared_ ? before.first() : now.stack().size()),
        links_(now, split_, options.links == ChangeOptions::Links::Whole) {}

  Outcome run();

 private:
  bool merges_with(const ViewEntry& now, const ViewEntry& before) const;
  Outcome push(ViewEntry entry, std::optional<ViewEntry> before, bool announced);
  Outcome read_names(Frame& frame);
  Result<std::optional<Name>, Failure> next_name(Frame& frame);
  Result<std::optional<Name>, Failure> next_of_either(Frame& frame);
  Result<std::optional<ViewEntry>> find_before(Frame& frame, const Name& name);
  Outcome step();
  Outcome one_deleted(Frame& frame, const Name& name);
  Outcome one_present(Frame& frame, const Name& name);
  Outcome one_directory(Frame& frame, ViewEntry entry, std::optional<ViewEntry> before);
  Outcome one_other(Frame& frame, ViewEntry entry, const std::optional<ViewEntry>& before);
  Result<ChangedParts> compare(ViewObject& now, ViewObject& before) const {
    return compare_objects(now, before, {options_.exact_content, shared_});
  }
  // A copy in the index that nobody named would be missed under its other names. Of a layer
  // that is under another one no mount reads an index: there the lower file shows.
  Outcome check_counted(Frame& frame, const ViewEntry& entry) const;
  Outcome announce_parents();
  Outcome announce(std::string_view path);
  Result<bool, Failure> announce_late(std::string_view path);
  Outcome report(const Change& change, bool is_directory);

  Outcome report_late(const std::string& path, bool relinked, bool& reported);

  const MergedView& before_;
  const MergedView& now_;
  const ChangeOptions& options_;
  const ChangeVisitor& visit_;
  const bool shared_;
  const LayerIndex split_;  // the first layer that both trees have
  std::string path_;
  LinkTally links_;
  SpillLog announced_;                                // the keys of the paths of directories
  std::optional<SpillTable<Nothing>> all_announced_;  // made of it when names come late
  SortSpace space_;
  std::vector<std::unique_ptr<Frame>> frames_;
};

bool Walk::merges_with(const ViewEntry& now, const ViewEntry& before) const {
  if (!shared_) {
    return false;
  }
  const auto first = std::find_if(now.sources.begin(), now.sources.end(),
                                  [&](const DirSource& s) { return s.layer >= split_; });
  return std::equal(first, now.sources.end(), before.sources.begin(), before.sources.end(),
                    same_source);
}

Outcome Walk::push(ViewEntry entry, std::optional<ViewEntry> before, bool announced) {
  auto frame = std::make_unique<Frame>();
  frame->announced = announced;
  frame->path_size = path_.size();
  frame->aligned = before && merges_with(entry, *before);
  frame->now_dir = now_.directory(entry);
  if (before) {
    frame->before_dir = before_.directory(*before);
  }
  frame->entry = std::move(entry);
  frame->before = std::move(before);
  LFS_TRY(read_names(*frame));
  if (!frames_.empty()) {
    Frame& above = *frames_.back();
    above.before_dir.close();
    if (above.now_dir.sources().size() > 1 || frames_.size() > kMostOpen) {
      above.now_dir.close();
    }
    if (frames_.size() > kMostReading) {
      above.rest();
    }
  }
  frames_.push_back(std::move(frame));
  return {};
}

Outcome Walk::read_names(Frame& frame) {
  const LayerIndex to = frame.aligned ? split_ : now_.stack().size();
  LFS_ASSIGN(auto names, now_.names(frame.now_dir, now_.first(), to, space_, path_));
  const std::uint64_t count = names->entry_count();
  frame.now_names = NameStream(std::move(names));
  frame.pass = options_.deletions_first ? Pass::Deleted : Pass::All;
  if (frame.before && (!frame.aligned || count > kMostProbes)) {
    const std::uint64_t most = frame.aligned ? count * kListedForOne : UINT64_MAX;
    LFS_ASSIGN(auto below, before_.names(frame.before_dir, before_.first(), before_.stack().size(),
                                         space_, path_, most));
    frame.before_names = NameStream(std::move(below));
  }
  return {};
}

// Of both streams the smaller name, or what both have of one.
Result<std::optional<Name>, Failure> Walk::next_of_either(Frame& frame) {
  LFS_ASSIGN(const MergedName* now, frame.now_names.head());
  const MergedName* before = nullptr;
  if (frame.before_names) {
    LFS_ASSIGN(before, frame.before_names.head());
  }
  if (now == nullptr && (before == nullptr || frame.aligned)) {
    return std::optional<Name>();
  }
  // What only the layers below have is the same in both trees.
  while (frame.aligned && before != nullptr && before->name < now->name) {
    frame.before_names.take();
    LFS_ASSIGN(before, frame.before_names.head());
  }
  const bool has_now = now != nullptr && (before == nullptr || now->name <= before->name);
  const bool has_before = before != nullptr && (now == nullptr || before->name <= now->name);
  Name name{std::string(has_now ? now->name : before->name), std::nullopt, std::nullopt};
  if (has_before) {
    name.before = frame.before_names.take();
  }
  if (has_now) {
    name.now = frame.now_names.take();
  }
  return std::optional<Name>(std::move(name));
}

Result<std::optional<Name>, Failure> Walk::next_name(Frame& frame) {
  for (;;) {
    LFS_ASSIGN(auto name, next_of_either(frame));
    if (!name) {
      if (frame.pass != Pass::Deleted) {
        return std::optional<Name>();
      }
      frame.pass = Pass::Present;
      frame.now_names.rewind();
      if (frame.before_names) {
        frame.before_names.rewind();
      }
      continue;
    }
    if (name->now && !name->now->is_shown) {
      name->now.reset();
    }
    const bool is_wanted =
        frame.pass == Pass::All || name->now.has_value() == (frame.pass == Pass::Present);
    if (is_wanted) {
      return name;
    }
  }
}

Result<std::optional<ViewEntry>> Walk::find_before(Frame& frame, const Name& name) {
  if (!frame.before || (frame.before_names && !name.before)) {
    return std::optional<ViewEntry>();
  }
  if (!frame.before_names) {
    return before_.find(frame.before_dir, name.text);
  }
  LFS_ASSIGN(ViewEntry entry, before_.entry(frame.before_dir, name.text, name.before->layer,
                                            name.before->exists_below));
  return std::optional<ViewEntry>(std::move(entry));
}

Outcome Walk::run() {
  if (now_.is_empty()) {
    return Failure{"there is no layer to read; name at least one"};
  }
  ChangedParts parts;
  std::optional<ViewEntry> before;
  if (!before_.is_empty()) {
    before = before_.root();
    if (merges_with(now_.root(), *before) && now_.first() == split_) {
      return {};
    }
    ViewDirectory now_dir = now_.directory(now_.root());
    ViewDirectory before_dir = before_.directory(*before);
    ViewEntry now_self = now_.root();
    ViewEntry before_self = *before;
    ViewObject now_object(now_, now_dir, std::move(now_self));
    ViewObject before_object(before_, before_dir, std::move(before_self));
    LFS_ASSIGN_AT(parts, path_, compare(now_object, before_object));
  }
  const bool replaces = before && options_.opaque && shared_ && !merges_with(now_.root(), *before);
  if (parts.any() || replaces || !before) {
    ViewDirectory now_dir = now_.directory(now_.root());
    ViewObject object(now_, now_dir, now_.root());
    Change change{before ? ChangeKind::Modified : ChangeKind::Added, path_, parts};
    change.replaces_directory = replaces;
    change.now = &object;
    change.before = before ? &*before : nullptr;
    LFS_TRY(visit_(change));
  }
  if (replaces) {
    before.reset();
  }
  // Never announced as a mere parent.
  LFS_TRY(push(now_.root(), std::move(before), true));
  while (!frames_.empty()) {
    LFS_TRY(step());
  }
  return links_.complete([this](const std::string& path, bool relinked, bool& reported) {
    return report_late(path, relinked, reported);
  });
}

Outcome Walk::step() {
  Frame& frame = *frames_.back();
  path_.resize(frame.path_size);
  LFS_ASSIGN(const auto name, next_name(frame));
  if (!name) {
    frames_.pop_back();
    return {};
  }
  if (!path_.empty()) {
    path_ += '/';
  }
  path_ += name->text;
  return name->now ? one_present(frame, *name) : one_deleted(frame, *name);
}

Outcome Walk::one_deleted(Frame& frame, const Name& name) {
  LFS_ASSIGN_AT(const auto before, path_, find_before(frame, name));
  if (!before) {
    return {};  // a whiteout of nothing
  }
  Change change{ChangeKind::Deleted, path_, {}};
  change.before = &*before;
  return report(change, false);
}

Outcome Walk::one_present(Frame& frame, const Name& name) {
  LFS_ASSIGN_AT(auto before, path_, find_before(frame, name));
  const bool exists_below = name.now->exists_below || before.has_value();
  LFS_ASSIGN_AT(ViewEntry entry, path_,
                now_.entry(frame.now_dir, name.text, name.now->layer, exists_below));
  return entry.is_directory() ? one_directory(frame, std::move(entry), std::move(before))
                              : one_other(frame, std::move(entry), before);
}

Outcome Walk::one_directory(Frame& frame, ViewEntry entry, std::optional<ViewEntry> before) {
  Change change{before ? ChangeKind::Modified : ChangeKind::Added, path_, {}};
  ViewObject object(now_, frame.now_dir, entry);
  change.now = &object;
  change.before = before ? &*before : nullptr;
  if (before && before->is_directory()) {
    if (shared_ && same_sources(entry.sources, before->sources)) {
      return {};
    }
    ViewObject old(before_, frame.before_dir, *before);
    LFS_ASSIGN_AT(change.parts, path_, compare(object, old));
    change.replaces_directory = options_.opaque && shared_ && !merges_with(entry, *before);
  } else if (before) {
    change.parts.type = true;
  }
  const bool changed = !before || change.parts.any() || change.replaces_directory;
  if (changed || options_.unchanged) {
    LFS_TRY(report(change, true));
  }
  if (change.replaces_directory || (before && !before->is_directory())) {
    before.reset();
  }
  return push(std::move(entry), std::move(before), changed || options_.unchanged);
}

Outcome Walk::check_counted(Frame& frame, const ViewEntry& entry) const {
  const bool may_have_index = entry.layer == 0 && split_ > 0 && now_.stack().size() > 1;
  if (!may_have_index || now_.index() >= 0) {
    return {};
  }
  LFS_ASSIGN_AT(const sys::At at, path_, now_.at(frame.now_dir, entry));
  LFS_ASSIGN_AT(const FileMarks marks, path_, read_file_marks(at, entry.st.stx_ino));
  if (marks.nlink && parse_link_delta(*marks.nlink) + 1 > 0) {
    return Failure{"'/" + path_ +
                   "': other names of this file show what the work directory of the upper "
                   "holds; name that directory with --work"};
  }
  return {};
}

Outcome Walk::one_other(Frame& frame, ViewEntry entry, const std::optional<ViewEntry>& before) {
  Change change{before ? ChangeKind::Modified : ChangeKind::Added, path_, {}};
  const bool is_linked = entry.may_be_linked();
  if (is_linked) {
    LFS_TRY(check_counted(frame, entry));
  }
  ViewObject object(now_, frame.now_dir, std::move(entry));
  change.now = &object;
  change.before = before ? &*before : nullptr;
  if (before) {
    ViewObject old(before_, frame.before_dir, *before);
    LFS_ASSIGN_AT(change.parts, path_, compare(object, old));
  }
  if (before && !change.parts.any() && !options_.unchanged) {
    return is_linked ? links_.skip(object.entry(), path_) : Outcome();
  }
  if (is_linked) {
    LFS_TRY(links_.report(object.entry(), path_));
  }
  return report(change, false);
}

Outcome Walk::announce_parents() {
  const std::string path = path_;
  for (std::size_t i = 0; i < frames_.size(); ++i) {
    Frame& frame = *frames_[i];
    if (frame.announced) {
      continue;
    }
    frame.announced = true;
    path_ = path.substr(0, frame.path_size);
    ViewObject object(now_, frames_[i - 1]->now_dir, frame.entry);
    Change change{ChangeKind::Modified, path_, {}};
    change.now = &object;
    change.before = frame.before ? &*frame.before : nullptr;
    LFS_TRY(announce(path_));
    LFS_TRY(visit_(change));
  }
  path_ = path;
  return {};
}

Outcome Walk::report(const Change& change, bool is_directory) {
  LFS_TRY(announce_parents());
  if (is_directory) {
    LFS_TRY(announce(path_));
  }
  return visit_(change);
}

Outcome Walk::announce(std::string_view path) {
  const SpillKey key = spill_key_of_path(path);
  return announced_.append({reinterpret_cast<const char*>(&key), sizeof key});
}

// Whether the directory was among the changes; from now on it is.
Result<bool, Failure> Walk::announce_late(std::string_view path) {
  if (!all_announced_) {
    all_announced_.emplace();
    SpillKey key{};
    for (std::uint64_t at = 0; at < announced_.size(); at += sizeof key) {
      LFS_TRY(announced_.read(at, reinterpret_cast<char*>(&key), sizeof key));
      LFS_TRY(all_announced_->set(key, {}));
    }
  }
  const SpillKey key = spill_key_of_path(path);
  LFS_ASSIGN(const auto was, all_announced_->find(key));
  if (!was) {
    LFS_TRY(all_announced_->set(key, {}));
  }
  return was.has_value();
}

Outcome Walk::report_late(const std::string& path, bool relinked, bool& reported) {
  struct Step {
    std::string path;
    ViewEntry entry;
    std::optional<ViewEntry> before;
  };
  std::vector<Step> chain;
  chain.push_back({"", now_.root(), std::nullopt});
  if (!before_.is_empty()) {
    chain.back().before = before_.root();
  }
  std::vector<std::unique_ptr<ViewDirectory>> dirs;
  std::unique_ptr<ViewDirectory> old_dir;
  for (std::size_t start = 0; start < path.size();) {
    const std::size_t end = std::min(path.find('/', start), path.size());
    const std::string_view name = std::string_view(path).substr(start, end - start);
    const Step& above = chain.back();
    dirs.push_back(std::make_unique<ViewDirectory>(now_.directory(above.entry)));
    LFS_ASSIGN_AT(auto entry, path, now_.find(*dirs.back(), name));
    if (!entry) {
      return cannot_read(path, Errno(EIO));
    }
    Step step{path.substr(0, end), std::move(*entry), std::nullopt};
    if (above.before && above.before->is_directory()) {
      old_dir = std::make_unique<ViewDirectory>(before_.directory(*above.before));
      LFS_ASSIGN_AT(step.before, path, before_.find(*old_dir, name));
    } else {
      old_dir.reset();
    }
    chain.push_back(std::move(step));
    start = end + 1;
  }
  Step& last = chain.back();
  ViewObject object(now_, *dirs.back(), last.entry);
  Change change{last.before ? ChangeKind::Modified : ChangeKind::Added, last.path, {}};
  change.relinked = relinked;
  change.now = &object;
  change.before = last.before ? &*last.before : nullptr;
  if (last.before) {
    ViewObject old(before_, *old_dir, *last.before);
    LFS_ASSIGN_AT(change.parts, path, compare(object, old));
    if (!relinked && !change.parts.any()) {
      return {};
    }
  }
  reported = true;
  for (std::size_t i = 1; i + 1 < chain.size(); ++i) {
    LFS_ASSIGN(const bool was_announced, announce_late(chain[i].path));
    if (was_announced) {
      continue;
    }
    ViewObject parent(now_, *dirs[i - 1], chain[i].entry);
    Change above{ChangeKind::Modified, chain[i].path, {}};
    above.now = &parent;
    above.before = chain[i].before ? &*chain[i].before : nullptr;
    LFS_TRY(visit_(above));
  }
  return visit_(change);
}

}  // namespace

Result<void, Failure> walk_changes(const MergedView& before, const MergedView& now,
                                   const ChangeOptions& options, const ChangeVisitor& visit) {
  return Walk(before, now, options, visit).run();
}

}  // namespace layerfs
