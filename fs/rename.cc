// Names that move.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <chrono>

#include "fs/file_system.h"
#include "layers/path_text.h"

namespace layerfs {
namespace {

constexpr std::chrono::milliseconds kReleaseWait{200};
constexpr unsigned kKnownFlags = RENAME_NOREPLACE | RENAME_EXCHANGE;

}  // namespace

// One of the two names, as it is under the exclusive lock. `node` has a lookup counted,
// given back by the destructor.
struct FileSystem::RenameSide {
  FileSystem* fs = nullptr;
  Node* parent = nullptr;
  SharedListing listing;
  std::string name;
  Node* node = nullptr;  // null: no such name
  LayerIndex layer = 0;  // of the entry
  bool exists_below = false;
  NewName where;  // for changes of this name

  RenameSide() = default;
  RenameSide(RenameSide&& other) noexcept
      : fs(other.fs),
        parent(other.parent),
        listing(std::move(other.listing)),
        name(std::move(other.name)),
        node(std::exchange(other.node, nullptr)),
        layer(other.layer),
        exists_below(other.exists_below),
        where(std::move(other.where)) {}
  RenameSide& operator=(RenameSide&&) = delete;
  ~RenameSide() {
    if (node != nullptr) {
      fs->forget(node->id, 1);
    }
  }
  sys::At at() const { return {where.dir->get(), name.c_str()}; }
  bool is_in_lower() const { return fs->stack_.at(layer).role == LayerRole::Lower; }
  // A layer below shows, or would show, the name if this layer's entry were gone.
  bool needs_whiteout() const { return node != nullptr && (is_in_lower() || exists_below); }
  // Something below must not shine through what is put here.
  bool covers() const { return where.whiteout || needs_whiteout(); }
};

Result<FileSystem::RenameSide> FileSystem::rename_side(NodeId parent, std::string_view name,
                                                       const ExclusiveTree& lock) {
  RenameSide side;
  side.fs = this;
  side.name = name;
  LFS_ASSIGN(side.parent, node_of(parent));
  LFS_ASSIGN(side.listing, listing_of(*side.parent));
  if (const auto* entry = side.listing->visible.find(name)) {
    side.layer = entry->layer;
    side.exists_below = (entry->flags & kExistsBelow) != 0;
    std::optional<Observed> observed;
    LFS_ASSIGN(side.node, child_of(*side.parent, *entry, *side.listing, observed, &lock));
  }
  return side;
}

FileSystem::RenameEffects FileSystem::effects_of(const RenameSide& from, const RenameSide& to,
                                                 unsigned flags, std::uint64_t old_ino) {
  RenameEffects effects;
  if (from.node->ino != old_ino) {
    effects.renumbered = from.node->id;
  }
  if (from.parent == to.parent) {
    return effects;
  }
  for (const Node* moved : {from.node, (flags & RENAME_EXCHANGE) != 0 ? to.node : nullptr}) {
    if (moved != nullptr && moved->is_dir()) {
      moved->dir->generation.change();
      effects.reparented.push_back(moved->id);
    }
  }
  return effects;
}

Result<FileSystem::RenameEffects> FileSystem::rename(NodeId parent, std::string_view name,
                                                     NodeId new_parent, std::string_view new_name,
                                                     unsigned flags) {
  if ((flags & ~kKnownFlags) != 0) {
    return Errno(EINVAL);
  }
  LFS_TRY(check_new_name(new_name));
  // The last close(2) may have returned before its RELEASE is here.
  const auto deadline = std::chrono::steady_clock::now() + kReleaseWait;
  RenameObstacle obstacle;
  for (;;) {
    if (obstacle.copy_up != 0) {
      const auto copied = copy_up(obstacle.copy_up, obstacle.need);
      forget(obstacle.copy_up, 1);
      LFS_TRY(copied);
    }
    if (obstacle.pinned != 0 && !pins_.wait_until_free(obstacle.pinned, deadline)) {
      return Errno(EXDEV);  // mv(1) copies, and those who have it open keep the old one
    }
    const ExclusiveTree lock(tree_);
    LFS_ASSIGN(RenameSide from, rename_side(parent, name, lock));
    LFS_ASSIGN(RenameSide to, rename_side(new_parent, new_name, lock));
    const std::uint64_t old_ino = from.node != nullptr ? from.node->ino : 0;
    LFS_ASSIGN(obstacle, rename_locked(from, to, flags, lock));
    if (obstacle.copy_up == 0 && obstacle.pinned == 0) {
      return effects_of(from, to, flags, old_ino);
    }
  }
}

// What rename(2) lets an object replace.
Status FileSystem::check_replaceable(const RenameSide& from, const RenameSide& to) {
  if (to.node == nullptr) {
    return {};
  }
  if (to.node->is_dir() && !from.node->is_dir()) {
    return Errno(EISDIR);
  }
  if (!to.node->is_dir() && from.node->is_dir()) {
    return Errno(ENOTDIR);
  }
  if (to.node->is_dir()) {
    LFS_ASSIGN(const SharedListing content, listing_of(*to.node));
    if (!content->visible.empty()) {
      return Errno(ENOTEMPTY);
    }
  }
  return {};
}

// The copy-up that the rename needs of this side's object, with a lookup counted.
Result<FileSystem::RenameObstacle> FileSystem::copy_up_before(const RenameSide& side, bool moves) {
  Node* node = side.node;
  if (node == nullptr) {
    return RenameObstacle{};
  }
  bool copies = false;
  Need need = Need::Attributes;
  if (moves) {
    need = need_to_move(*node);
    LFS_ASSIGN(copies, needs_copy_up(*node, need));
  } else if (node->place == Place::Lower && !node->is_dir()) {
    // The number of its other names must outlive this mount: see remove().
    LFS_ASSIGN(const Located located, locate(*node));
    LFS_ASSIGN(const struct statx st, sys::stat_at(located.at()));
    copies = is_indexable(st);
  }
  if (!copies) {
    return RenameObstacle{};
  }
  table_.ref(*node);
  return RenameObstacle{node->id, need, 0};
}

Result<FileSystem::RenameObstacle> FileSystem::rename_locked(RenameSide& from, RenameSide& to,
                                                             unsigned flags,
                                                             const ExclusiveTree& lock) {
  const bool exchange = (flags & RENAME_EXCHANGE) != 0;
  if (from.node == nullptr || (exchange && to.node == nullptr)) {
    return Errno(ENOENT);
  }
  if (!upper_) {
    return Errno(EROFS);
  }
  if ((flags & RENAME_NOREPLACE) != 0 && to.node != nullptr) {
    return Errno(EEXIST);
  }
  if (from.node == to.node) {
    return RenameObstacle{};  // two names of one object: rename(2) does nothing
  }
  if (!exchange) {
    LFS_TRY(check_replaceable(from, to));
  }
  for (const RenameSide* side : {&from, &to}) {
    LFS_ASSIGN(const RenameObstacle obstacle, copy_up_before(*side, side == &from || exchange));
    if (obstacle.copy_up != 0) {
      return obstacle;
    }
  }
  LFS_ASSIGN(from.where, prepare_name(*from.parent, from.name, *from.listing, lock));
  LFS_ASSIGN(to.where, prepare_name(*to.parent, to.name, *to.listing, lock));
  if (from.where.layer != to.where.layer) {
    if (exchange) {
      return Errno(EXDEV);
    }
    if (pins_.is_pinned(from.node->id)) {
      return RenameObstacle{0, Need::Attributes, from.node->id};
    }
    LFS_TRY(move_between_layers(from, to, lock));
    return RenameObstacle{};
  }
  LFS_TRY(prepare_moved(from, to, lock));
  if (exchange) {
    LFS_TRY(prepare_moved(to, from, lock));
    LFS_TRY(exchange_names(from, to, lock));
  } else {
    LFS_TRY(move_name(from, to, lock));
  }
  return RenameObstacle{};
}

// Makes what is about to move right for its new place, harmless where it still is.
Status FileSystem::prepare_moved(RenameSide& from, const RenameSide& to,
                                 const ExclusiveTree& lock) {
  Node& node = *from.node;
  WritableLayer& layer = *from.where.layer;
  if (!node.is_dir()) {
    if (from.is_in_lower() && node.place == Place::Indexed) {
      // The inode has been copied up under another name; this one moves by linking.
      LFS_TRY(mark_impure(*from.parent, lock));
      LFS_TRY(sys::link_at({index_fd_->get(), node.extra->index_name.c_str()}, from.at()));
      const auto counted = change_link_delta(node, -1);
      if (!counted && sys::unlink_at(from.at(), sys::UnlinkKind::File).ok()) {
        return counted.error();
      }
      node.extra->linked_in_upper = true;
      from.layer = layer.index();
      from.exists_below = true;
      from.listing->visible.set(from.name, node.type, from.layer, kExistsBelow);
    }
    LFS_TRY(redirect_metacopy(node, lock));
  } else if (!node.dir->sources.empty()) {
    const bool all_lower = stack_.at(node.dir->sources.front().layer).role == LayerRole::Lower;
    const std::string path = "/" + node.dir->view.text();
    // A private directory cannot move out of the init layer, and without a redirect the
    // lower part would stay behind: mv(1) copies instead.
    if (!all_lower || !options_.redirect || !layer.marks().has_xattrs() ||
        path.size() > kMaxRedirectBytes) {
      return Errno(EXDEV);
    }
    LFS_ASSIGN(const SharedFd self, directory_fd(node, layer.index()));
    LFS_TRY(layer.marks().set_redirect({self->get()}, path));
  } else if (to.covers()) {
    LFS_ASSIGN(const SharedFd self, directory_fd(node, layer.index()));
    LFS_TRY(layer.marks().set_opaque({self->get()}));
  }
  if (from.parent->dir->impure) {
    LFS_TRY(mark_impure(*to.parent, lock));
  }
  return {};
}

// An empty directory that the rename replaces may hold whiteouts in its layer, and must
// be found by those who have it open: a clean one takes its place first. Returns its name in
// work/.
Result<std::string> FileSystem::clear_target_directory(RenameSide& to,
                                                       const ExclusiveTree& /*lock*/) {
  WritableLayer& layer = *to.where.layer;
  if (!layer.marks().has_xattrs()) {
    // The marker of an opaque directory is a file: a clean one would not be empty for the
    // kernel, so there is none, and a whiteout covers the name.
    // CRASH: the name is gone.
    std::string parked = layer.workdir().temp_name();
    LFS_TRY(leave_whiteout(layer, to.where.dir->get(), to.name,
                           {layer.workdir().fd(), parked.c_str()}));
    to.where.whiteout = true;
    return parked;
  }
  LFS_ASSIGN(const Located located, locate(*to.node));
  LFS_ASSIGN(const CopySource source, copy_source(located, *to.node));
  LFS_ASSIGN(Staged staged, layer.stage_copy(source));
  LFS_TRY(layer.marks().set_opaque_attribute(staged.entry.at()));
  LFS_TRY(layer.keep_order());
  LFS_TRY(sys::rename_at(staged.entry.at(), to.at(), RENAME_EXCHANGE));
  return staged.entry.release();
}

// After a rename that failed: undoes clear_target_directory.
void FileSystem::put_target_directory_back(RenameSide& to, std::string parked) {
  WritableLayer& layer = *to.where.layer;
  TempEntry entry(layer.workdir().fd(), std::move(parked));
  const bool by_exchange = layer.marks().has_xattrs();
  const auto back = by_exchange ? sys::rename_at(entry.at(), to.at(), RENAME_EXCHANGE)
                                : layer.publish(entry, true, to.where.dir->get(), to.name, true);
  if (back) {
    return;  // what took its place is in work/ now, and goes with `entry`
  }
  if (!by_exchange) {
    to.listing->visible.erase(to.name);
    note_whiteout(*to.listing, layer.index(), to.name);
  }
  target_gone(to, entry.release());
}

void FileSystem::target_gone(RenameSide& to, std::string parked) {
  Node& node = *to.node;
  WritableLayer& layer = *to.where.layer;
  const bool indexed = node.place == Place::Indexed;
  const bool named = table_.drop_name(node, *to.parent, to.name);
  if (indexed || named) {
    ignore(sys::unlink_at({layer.workdir().fd(), parked.c_str()}, sys::UnlinkKind::File),
           "work/ is swept at the next mount");
    if (indexed) {
      ignore(settle_index(node), "the index keeps an inode too long");
    }
    return;
  }
  node.extras().parked_name = std::move(parked);
  node.place = Place::Parked;
  node.layer = layer.index();
  if (node.is_dir()) {
    listings_.drop(node.id);
  }
}

void FileSystem::lower_target_gone(RenameSide& to) {
  Node& node = *to.node;
  const bool indexed = node.place == Place::Indexed;
  if (!node.is_dir() && node.is_below()) {
    detach_lower(node);
  }
  table_.drop_name(node, *to.parent, to.name);
  if (indexed) {
    ignore(settle_index(node), "the index keeps an inode too long");
  }
  if (node.is_dir()) {
    listings_.drop(node.id);
  }
}

bool FileSystem::replaces_counted_name(const RenameSide& to) {
  return to.node != nullptr && to.is_in_lower() && to.node->place == Place::Indexed;
}

Result<TempEntry> FileSystem::link_into_work(WritableLayer& layer, sys::At at) {
  std::string name = layer.workdir().temp_name();
  LFS_TRY(sys::link_at(at, {layer.workdir().fd(), name.c_str()}));
  return TempEntry(layer.workdir().fd(), std::move(name));
}

// The change in the layer: all of it, or nothing.
Status FileSystem::move_stored(RenameSide& from, RenameSide& to, bool leaves_whiteout) {
  WritableLayer& layer = *to.where.layer;
  if (to.covers() && from.parent != to.parent && layer.may_lose_order()) {
    LFS_TRY(WritableLayer::sync({from.where.dir->get(), "."}));
  }
  const bool over_device = to.where.whiteout && layer.marks().form() == WhiteoutForm::Overlay;
  if (over_device && from.node->is_dir()) {
    LFS_ASSIGN(const auto there, sys::try_stat_at(to.at()));
    if (there && is_whiteout_device(*there)) {
      // A directory cannot replace the whiteout, which is no directory; the exchange
      // leaves it at the old name.
      LFS_TRY(sys::rename_at(from.at(), to.at(), RENAME_EXCHANGE));
      if (!leaves_whiteout) {
        ignore(sys::unlink_at(from.at(), sys::UnlinkKind::File), "a whiteout that hides nothing");
      }
      return {};
    }
  }
  LFS_TRY(leaves_whiteout ? leave_whiteout(layer, from.where.dir->get(), from.name, to.at())
                          : sys::rename_at(from.at(), to.at()));
  if (to.where.whiteout) {
    const std::string marker = std::string(kWhiteoutPrefix) + to.name;
    ignore(sys::unlink_at({to.where.dir->get(), marker.c_str()}, sys::UnlinkKind::File),
           "what stands beside the marker is shown all the same");
  }
  return {};
}

// Undoes move_stored() of a file over a name that only a lower has.
bool FileSystem::move_stored_back(const RenameSide& from, const RenameSide& to,
                                  bool leaves_whiteout) {
  if (!sys::rename_at(to.at(), from.at(), leaves_whiteout ? 0 : RENAME_NOREPLACE)) {
    return false;
  }
  if (leaves_whiteout) {
    const std::string marker = std::string(kWhiteoutPrefix) + from.name;
    ignore(sys::unlink_at({from.where.dir->get(), marker.c_str()}, sys::UnlinkKind::File),
           "what stands beside the marker is shown all the same");
  }
  return true;
}

Status FileSystem::move_name(RenameSide& from, RenameSide& to, const ExclusiveTree& lock) {
  WritableLayer& layer = *to.where.layer;
  const bool whiteout = from.needs_whiteout();
  const bool to_stored = to.node != nullptr && !to.is_in_lower();
  const bool to_covers = to.covers();
  if (to.node != nullptr && to.node->type == DT_REG) {
    LFS_ASSIGN(const Content content, content_of(*to.node));
    if (content == Content::Below) {
      LFS_ASSIGN(const UniqueFd data, open_data_below(*to.node, lock));
    }
  }
  std::string cleared;
  TempEntry second(layer.workdir().fd(), "");
  if (to_stored && to.node->is_dir()) {
    LFS_ASSIGN(cleared, clear_target_directory(to, lock));
  } else if (to_stored) {
    // Those who have it open keep it by a second link in work/.
    LFS_ASSIGN(second, link_into_work(layer, to.at()));
  }
  const auto moved = move_stored(from, to, whiteout);
  if (!moved) {
    if (!cleared.empty()) {
      put_target_directory_back(to, std::move(cleared));
    }
    return moved.error();
  }
  if (replaces_counted_name(to)) {
    // CRASH: afterwards, see link_from_index().
    const auto counted = change_link_delta(*to.node, -1);
    if (!counted && move_stored_back(from, to, whiteout)) {
      return counted.error();
    }
  }
  if (to_stored) {
    target_gone(to, cleared.empty() ? second.release() : std::move(cleared));
  } else if (to.node != nullptr) {
    lower_target_gone(to);
  }
  from.listing->visible.erase(from.name);
  if (whiteout) {
    note_whiteout(*from.listing, layer.index(), from.name);
  }
  names_changed(*from.parent, from.where);
  names_changed(*to.parent, to.where);
  to.listing->visible.insert(to.name, from.node->type, layer.index(), to_covers ? kExistsBelow : 0);
  (to.where.layer == upper_.get() ? to.listing->upper_whiteouts : to.listing->init_whiteouts)
      .erase(to.name);
  move_node(from, to);
  return {};
}

// The name of the node at `from` becomes that of `to`, be it its own or an alias.
void FileSystem::move_node(RenameSide& from, RenameSide& to) {
  Node& node = *from.node;
  if (node.parent == from.parent && node.name == from.name) {
    table_.move(node, to.parent, to.name);
    return;
  }
  table_.drop_name(node, *from.parent, from.name);
  table_.add_alias(node, *to.parent, to.name);
}

Status FileSystem::exchange_names(RenameSide& from, RenameSide& to, const ExclusiveTree& /*lock*/) {
  if (from.parent != to.parent && from.where.layer->may_lose_order()) {
    for (const RenameSide* side : {&from, &to}) {
      LFS_TRY(WritableLayer::sync({side->where.dir->get(), "."}));
    }
  }
  LFS_TRY(sys::rename_at(from.at(), to.at(), RENAME_EXCHANGE));
  names_changed(*from.parent, from.where);
  names_changed(*to.parent, to.where);
  const LayerIndex layer = from.where.layer->index();
  const auto flags = [](const RenameSide& side) -> std::uint8_t {
    return side.needs_whiteout() ? kExistsBelow : 0;
  };
  const std::uint8_t from_flags = flags(from);
  const std::uint8_t to_flags = flags(to);
  from.listing->visible.set(from.name, to.node->type, layer, from_flags);
  to.listing->visible.set(to.name, from.node->type, layer, to_flags);
  Node& a = *from.node;
  Node& b = *to.node;
  const bool own_names =
      a.parent == from.parent && a.name == from.name && b.parent == to.parent && b.name == to.name;
  if (own_names) {
    table_.swap(a, b);
    return {};
  }
  table_.drop_name(a, *from.parent, from.name);
  table_.drop_name(b, *to.parent, to.name);
  table_.add_alias(a, *to.parent, to.name);
  table_.add_alias(b, *from.parent, from.name);
  return {};
}

// Undoes the first half of move_between_layers. `second`: a link of what the copy replaced.
bool FileSystem::take_copy_back(RenameSide& to, TempEntry& second) {
  if (to.node == nullptr || to.is_in_lower()) {
    return take_name_back(to.where, to.name);
  }
  const bool back = sys::rename_at(second.at(), to.at()).ok();
  if (back) {
    second.release();
  }
  return back;
}

// Between the upper and the init layer no rename is possible: the object is copied into
// the layer of its new name and then deleted from the old one. A private path replaced
// this way stays private.
// CRASH: in between both names exist, each whole.
Status FileSystem::move_between_layers(RenameSide& from, RenameSide& to,
                                       const ExclusiveTree& lock) {
  Node& node = *from.node;
  if (node.is_dir() || node.place != Place::Writable ||
      (node.extra && !node.extra->aliases.empty())) {
    return Errno(EXDEV);
  }
  WritableLayer& target = *to.where.layer;
  const std::uint8_t flags = to.covers() ? kExistsBelow : 0;
  LFS_ASSIGN(const Located located, locate(node));
  LFS_ASSIGN(CopySource source, copy_source(located, node));
  if (source.st.stx_nlink > 1) {
    return Errno(EXDEV);  // its other names could not come along
  }
  UniqueFd data;
  if (node.type == DT_REG) {
    LFS_ASSIGN(data, open_content(node, O_RDONLY, &lock));
    source.data_fd = data.get();
  }
  // The number of a lower object stays taken; that of the one about to be deleted is free
  // for the next.
  LFS_ASSIGN(const FileMarks old_marks, read_file_marks(located.at(), source.st.stx_ino));
  source.origin = old_marks.origin;
  LFS_ASSIGN(Staged staged, target.stage_copy(source));
  LFS_ASSIGN(const struct statx copy, sys::stat_at(staged.entry.at()));
  LFS_ASSIGN(const FileMarks marks, read_file_marks(staged.entry.at(), copy.stx_ino));
  if (marks.origin && &target == upper_.get()) {
    LFS_TRY(mark_impure(*to.parent, lock));
  }
  const bool to_stored = to.node != nullptr && !to.is_in_lower();
  TempEntry second(target.workdir().fd(), "");
  if (to_stored) {
    LFS_ASSIGN(second, link_into_work(target, to.at()));
    LFS_TRY(target.keep_order());
    LFS_TRY(sys::rename_at(staged.entry.at(), to.at()));
    staged.entry.release();
  } else {
    LFS_TRY(target.publish(staged.entry, false, to.where.dir->get(), to.name, to.where.whiteout));
  }
  // CRASH: on disk before the old name goes, which may be on another filesystem.
  Status made = target.is_volatile() ? Status() : WritableLayer::sync({to.where.dir->get(), "."});
  const bool counts = made.ok() && replaces_counted_name(to);
  if (counts) {
    made = change_link_delta(*to.node, -1);
  }
  const bool counted = counts && made.ok();
  const bool hide = from.needs_whiteout();
  const std::string old = from.where.layer->workdir().temp_name();
  const sys::At work{from.where.layer->workdir().fd(), old.c_str()};
  const auto taken = !made ? made
                     : hide
                         ? leave_whiteout(*from.where.layer, from.where.dir->get(), from.name, work)
                         : sys::rename_at(from.at(), work);
  // The count first: too low would drop what the name shows again.
  const bool may_undo = !taken && (!counted || change_link_delta(*to.node, 1).ok());
  if (may_undo && take_copy_back(to, second)) {
    return taken.error();
  }
  if (to_stored) {
    target_gone(to, second.release());
  } else if (to.node != nullptr) {
    lower_target_gone(to);
  }
  show_name(*to.parent, *to.listing, to.name, node.type, to.where);
  to.listing->visible.set(to.name, node.type, target.index(), flags);
  if (!taken) {
    return taken.error();  // both names exist
  }
  ignore(sys::unlink_at(work, sys::UnlinkKind::File), "work/ is swept at the next mount");
  names_changed(*from.parent, from.where);
  from.listing->visible.erase(from.name);
  if (hide) {
    note_whiteout(*from.listing, from.where.layer->index(), from.name);
  }
  node.layer = target.index();
  node.content = Content::Here;
  node.extra.reset();
  node.ino = inos_.shown(sys::device_of(copy), copy.stx_ino);
  apply_origin(node, marks);
  table_.drop_files(node);
  descriptors_.drop_data(node.id);
  move_node(from, to);
  return {};
}

}  // namespace layerfs
