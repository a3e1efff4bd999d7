#include "layers/change_walk.h"

#include <dirent.h>
#include <xxhash.h>

#include <algorithm>
#include <map>
#include <memory>
#include <unordered_set>

#include "layers/path_text.h"

namespace layerfs {
namespace {

// Up to so many names of a directory are looked up below one by one; for more, the
// directory below is listed.
constexpr std::size_t kMostProbes = 8;
// Directories above the one at hand that may keep their descriptors.
constexpr std::size_t kMostOpen = 64;

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

struct Name {
  std::string_view name;
  // nullopt: the new tree has it no more.
  std::optional<LayerIndex> layer;
  bool exists_below;
};

struct Frame {
  ViewEntry entry;  // of the directory in the new tree
  std::optional<ViewEntry> before;
  ViewDirectory now_dir;
  ViewDirectory before_dir;
  std::size_t path_size = 0;
  bool announced = false;
  bool aligned = false;  // both trees have the same lower directories
  MergedDirectory now_listing;
  std::optional<MergedDirectory> before_listing;
  std::vector<Name> names;
  std::size_t next = 0;
};

struct PathHash {
  std::uint64_t low;
  std::uint64_t high;
  friend auto operator<=>(const PathHash&, const PathHash&) = default;
};

PathHash hash_of(std::string_view path) {
  const XXH128_hash_t hash = XXH3_128bits(path.data(), path.size());
  return {hash.low64, hash.high64};
}

struct LinkGroup {
  std::uint32_t links = 0;
  std::vector<PathHash> reported;
  std::vector<std::string> skipped;
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
        split_(shared_ ? before.first() : now.stack().size()) {}

  Outcome run();

 private:
  bool merges_with(const ViewEntry& now, const ViewEntry& before) const;
  Outcome push(ViewEntry entry, std::optional<ViewEntry> before, bool announced);
  Outcome fill_names(Frame& frame);
  Result<std::optional<ViewEntry>> find_before(Frame& frame, std::string_view name);
  Outcome step();
  Outcome one_deleted(Frame& frame, const Name& name);
  Outcome one_present(Frame& frame, const Name& name);
  Outcome one_directory(Frame& frame, ViewEntry entry, std::optional<ViewEntry> before);
  Outcome one_other(Frame& frame, ViewEntry entry, const std::optional<ViewEntry>& before);
  Result<ChangedParts> compare(ViewObject& now, ViewObject& before) const {
    return compare_objects(now, before, {options_.exact_content, shared_});
  }
  // A copy in the index that nobody named would be missed under its other names.
  Outcome check_counted(Frame& frame, const ViewEntry& entry) const;
  Outcome announce_parents();
  Outcome report(const Change& change, bool is_directory);

  Outcome complete_links();
  Outcome find_outstanding();
  Outcome scan_directory(ViewDirectory& dir, const std::map<LinkKey, LinkKey>& wanted,
                         std::vector<std::pair<std::string, std::vector<DirSource>>>& below,
                         const std::string& path);
  Outcome report_late(const std::string& path, bool relinked, bool& reported);

  const MergedView& before_;
  const MergedView& now_;
  const ChangeOptions& options_;
  const ChangeVisitor& visit_;
  const bool shared_;
  const LayerIndex split_;  // the first layer that both trees have
  std::string path_;
  std::vector<std::unique_ptr<Frame>> frames_;
  std::map<LinkKey, LinkGroup> groups_;
  std::vector<PathHash> announced_;
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
  LFS_TRY(fill_names(*frame));
  if (!frames_.empty()) {
    Frame& above = *frames_.back();
    above.before_dir.close();
    if (above.now_dir.sources().size() > 1 || frames_.size() > kMostOpen) {
      above.now_dir.close();
    }
  }
  frames_.push_back(std::move(frame));
  return {};
}

Outcome Walk::fill_names(Frame& frame) {
  const LayerIndex to = frame.aligned ? split_ : now_.stack().size();
  LFS_ASSIGN_AT(frame.now_listing, path_, now_.list(frame.now_dir, now_.first(), to));
  const DirectoryListing& visible = frame.now_listing.visible;
  visible.for_each_after(0, [&](const DirectoryListing::Entry& entry) {
    frame.names.push_back({entry.name, entry.layer, (entry.flags & kExistsBelow) != 0});
    return true;
  });
  if (frame.aligned) {
    for (const std::string& name : frame.now_listing.upper_whiteouts) {
      if (visible.find(name) == nullptr) {
        frame.names.push_back({name, std::nullopt, false});
      }
    }
  }
  if (frame.before && (!frame.aligned || frame.names.size() > kMostProbes)) {
    LFS_ASSIGN_AT(frame.before_listing, path_, before_.list(frame.before_dir));
  }
  if (frame.before && !frame.aligned) {
    frame.before_listing->visible.for_each_after(0, [&](const DirectoryListing::Entry& entry) {
      if (visible.find(entry.name) == nullptr) {
        frame.names.push_back({entry.name, std::nullopt, false});
      }
      return true;
    });
  }
  std::sort(frame.names.begin(), frame.names.end(), [&](const Name& a, const Name& b) {
    if (options_.deletions_first && a.layer.has_value() != b.layer.has_value()) {
      return !a.layer.has_value();
    }
    return a.name < b.name;
  });
  return {};
}

Result<std::optional<ViewEntry>> Walk::find_before(Frame& frame, std::string_view name) {
  if (!frame.before) {
    return std::optional<ViewEntry>();
  }
  if (!frame.before_listing) {
    return before_.find(frame.before_dir, name);
  }
  const auto* listed = frame.before_listing->visible.find(name);
  if (listed == nullptr) {
    return std::optional<ViewEntry>();
  }
  LFS_ASSIGN(ViewEntry entry, before_.entry(frame.before_dir, name, listed->layer,
                                            (listed->flags & kExistsBelow) != 0));
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
  return complete_links();
}

Outcome Walk::step() {
  Frame& frame = *frames_.back();
  path_.resize(frame.path_size);
  if (frame.next == frame.names.size()) {
    frames_.pop_back();
    return {};
  }
  const Name name = frame.names[frame.next++];
  if (!path_.empty()) {
    path_ += '/';
  }
  path_ += name.name;
  return name.layer ? one_present(frame, name) : one_deleted(frame, name);
}

Outcome Walk::one_deleted(Frame& frame, const Name& name) {
  LFS_ASSIGN_AT(const auto before, path_, find_before(frame, name.name));
  if (!before) {
    return {};  // a whiteout of nothing
  }
  Change change{ChangeKind::Deleted, path_, {}};
  change.before = &*before;
  return report(change, false);
}

Outcome Walk::one_present(Frame& frame, const Name& name) {
  LFS_ASSIGN_AT(auto before, path_, find_before(frame, name.name));
  const bool exists_below = name.exists_below || before.has_value();
  LFS_ASSIGN_AT(ViewEntry entry, path_,
                now_.entry(frame.now_dir, name.name, *name.layer, exists_below));
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
  if (!shared_ || entry.layer >= split_ || now_.index() >= 0) {
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
  LinkGroup* group = nullptr;
  if (entry.may_be_linked()) {
    LFS_TRY(check_counted(frame, entry));
    group = &groups_[entry.link_key()];
    group->links = entry.st.stx_nlink;
  }
  ViewObject object(now_, frame.now_dir, std::move(entry));
  change.now = &object;
  change.before = before ? &*before : nullptr;
  if (before) {
    ViewObject old(before_, frame.before_dir, *before);
    LFS_ASSIGN_AT(change.parts, path_, compare(object, old));
  }
  if (before && !change.parts.any() && !options_.unchanged) {
    if (group != nullptr) {
      group->skipped.push_back(path_);
    }
    return {};
  }
  if (group != nullptr) {
    group->reported.push_back(hash_of(path_));
    const ViewEntry& reported = object.entry();
    if (reported.links_are_all_names && group->reported.size() == group->links) {
      groups_.erase(reported.link_key());  // none of its names is still to come
    }
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
    announced_.push_back(hash_of(path_));
    LFS_TRY(visit_(change));
  }
  path_ = path;
  return {};
}

Outcome Walk::report(const Change& change, bool is_directory) {
  LFS_TRY(announce_parents());
  if (is_directory) {
    announced_.push_back(hash_of(path_));
  }
  return visit_(change);
}

Outcome Walk::complete_links() {
  std::sort(announced_.begin(), announced_.end());
  if (shared_) {
    LFS_TRY(find_outstanding());
  }
  // A copy in the index may differ from the lower file under names that no layer above
  // has; those are compared first, since one change makes all names of the object late.
  for (auto& [key, group] : groups_) {
    if (!group.reported.empty() || key.layer != now_.first()) {
      continue;
    }
    std::sort(group.skipped.begin(), group.skipped.end());
    for (auto path = group.skipped.begin(); path != group.skipped.end(); ++path) {
      bool reported = false;
      LFS_TRY(report_late(*path, false, reported));
      if (reported) {
        group.reported.push_back(hash_of(*path));
        group.skipped.erase(path);
        break;
      }
    }
  }
  const bool whole = options_.links == ChangeOptions::Links::Whole;
  std::vector<std::string> late;
  for (auto& [key, group] : groups_) {
    const bool in_index = key.layer == now_.first() && now_.index() >= 0;
    if (!group.reported.empty() && (whole || in_index)) {
      late.insert(late.end(), std::make_move_iterator(group.skipped.begin()),
                  std::make_move_iterator(group.skipped.end()));
    }
  }
  std::sort(late.begin(), late.end());
  for (const std::string& path : late) {
    bool reported = false;
    LFS_TRY(report_late(path, whole, reported));
  }
  return {};
}

Outcome Walk::find_outstanding() {
  // The inode that a lower shows -> the object whose name that is.
  std::map<LinkKey, LinkKey> wanted;
  const LayerStack& stack = now_.stack();
  const bool whole = options_.links == ChangeOptions::Links::Whole;
  for (const IndexKey& key : now_.indexed()) {
    const std::string name = format_index_name(key);
    const sys::At at{now_.index(), name.c_str()};
    LFS_ASSIGN_AT(const struct statx st, name, sys::stat_at(at));
    LFS_ASSIGN_AT(const FileMarks marks, name, read_file_marks(at, st.stx_ino));
    // One link is the index itself; without a count any number of names may be left.
    if (marks.nlink && parse_link_delta(*marks.nlink) + 1 <= 0) {
      continue;
    }
    const LinkKey object{now_.first(), sys::device_of(st), st.stx_ino};
    for (LayerIndex i = split_; i < stack.size(); ++i) {
      if (stack.at(i).fsid == key.fsid) {
        wanted.insert({{i, stack.at(i).device, key.ino}, object});
      }
    }
  }
  for (const auto& [key, group] : groups_) {
    if (whole && key.layer >= split_ && !group.reported.empty() &&
        group.links > group.reported.size() + group.skipped.size()) {
      wanted.insert({key, key});
    }
  }
  if (wanted.empty()) {
    return {};
  }
  // Depth first over the whole tree: nothing tells where else an inode has names.
  std::vector<std::pair<std::string, std::vector<DirSource>>> waiting;
  waiting.emplace_back("", now_.root().sources);
  while (!waiting.empty()) {
    auto [path, sources] = std::move(waiting.back());
    waiting.pop_back();
    ViewDirectory dir(stack, std::move(sources));
    LFS_TRY(scan_directory(dir, wanted, waiting, path));
  }
  return {};
}

Outcome Walk::scan_directory(ViewDirectory& dir, const std::map<LinkKey, LinkKey>& wanted,
                             std::vector<std::pair<std::string, std::vector<DirSource>>>& below,
                             const std::string& path) {
  LFS_ASSIGN_AT(const MergedDirectory listing, path, now_.list(dir));
  Outcome outcome;
  listing.visible.for_each_after(0, [&](const DirectoryListing::Entry& listed) {
    const std::string here = join(path, listed.name);
    const auto look = [&]() -> Outcome {
      const std::string name(listed.name);
      if (listed.type == DT_DIR) {
        LFS_ASSIGN_AT(ViewEntry entry, here,
                      now_.entry(dir, name, listed.layer, (listed.flags & kExistsBelow) != 0));
        below.emplace_back(here, std::move(entry.sources));
        return {};
      }
      const LinkKey first{listed.layer, 0, 0};
      const auto any = wanted.lower_bound(first);
      if (any == wanted.end() || any->first.layer != listed.layer) {
        return {};
      }
      LFS_ASSIGN_AT(const int fd, here, dir.open(listed.layer));
      LFS_ASSIGN_AT(const struct statx st, here, sys::stat_at({fd, name.c_str()}));
      const auto found = wanted.find({listed.layer, sys::device_of(st), st.stx_ino});
      if (found == wanted.end()) {
        return {};
      }
      LinkGroup& group = groups_[found->second];
      const auto knows = [](const auto& names, const auto& one) {
        return std::find(names.begin(), names.end(), one) != names.end();
      };
      if (!knows(group.reported, hash_of(here)) && !knows(group.skipped, here)) {
        group.skipped.push_back(here);
      }
      return {};
    };
    outcome = look();
    return outcome.ok();
  });
  return outcome;
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
    const PathHash hash = hash_of(chain[i].path);
    const auto at = std::lower_bound(announced_.begin(), announced_.end(), hash);
    if (at != announced_.end() && *at == hash) {
      continue;
    }
    announced_.insert(at, hash);
    ViewObject parent(now_, *dirs[i - 1], chain[i].entry);
    Change above{ChangeKind::Modified, chain[i].path, {}};
    above.now = &parent;
    above.before = chain[i].before ? &*chain[i].before : nullptr;
    LFS_TRY(visit_(above));
  }
  return visit_(change);
}

}  // namespace

Failure cannot_read(std::string_view path, Errno error) {
  std::string message = "cannot read '/" + std::string(path) + "': " + describe(error);
  if (error.value() == ENODATA) {
    message = "'/" + std::string(path) +
              "' is here with its attributes only, and no layer below has its data; give also the "
              "layers that it was copied up from";
  } else if (is_not_permitted(error)) {
    message += "; read the layers as root, or in the user namespace that they belong to";
  } else if (error.value() == EIO) {
    message += "; a layer is damaged, or changed while it was read";
  }
  return {message};
}

Result<void, Failure> walk_changes(const MergedView& before, const MergedView& now,
                                   const ChangeOptions& options, const ChangeVisitor& visit) {
  return Walk(before, now, options, visit).run();
}

}  // namespace layerfs
