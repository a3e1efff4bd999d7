// Names that come and go: creation, hard links, deletion.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "fs/caller_identity.h"
#include "fs/file_system.h"
#include "layers/path_text.h"

namespace layerfs {

Status FileSystem::check_new_name(std::string_view name) {
  if (name.size() > kMaxNameBytes) {
    return Errno(ENAMETOOLONG);
  }
  // The kernel sends single names only; anything else could lead out of the directory.
  // A reserved one would be a mark to the next reader of the layer.
  return is_valid_component(name) && !is_reserved_name(name) ? Status() : Status(Errno(EINVAL));
}

// A path that exists in the init layer is private: what happens to it stays there.
WritableLayer* FileSystem::layer_for_name(Node& parent, std::string_view name,
                                          const MergedDirectory& listing) {
  if (!init_) {
    return upper_.get();
  }
  const LayerIndex init = init_->index();
  if (parent.layer == init) {
    return init_.get();
  }
  const DirectoryListing::Entry* entry = listing.visible.find(name);
  const bool there = entry != nullptr && entry->layer == init;
  const bool deleted_there = entry == nullptr && listing.init_whiteouts.contains(std::string(name));
  return there || deleted_there ? init_.get() : upper_.get();
}

Result<FileSystem::NewName> FileSystem::prepare_name(Node& parent, std::string_view name,
                                                     const MergedDirectory& listing,
                                                     const ExclusiveTree& lock) {
  WritableLayer* layer = layer_for_name(parent, name, listing);
  if (layer == nullptr) {
    return Errno(EROFS);
  }
  if (is_removed(parent)) {
    return Errno(ENOENT);
  }
  if (layer == upper_.get()) {
    LFS_TRY(copy_up_directory(parent, lock));
  }
  LFS_ASSIGN(SharedFd dir, directory_fd(parent, layer->index()));
  const auto& whiteouts = layer == upper_.get() ? listing.upper_whiteouts : listing.init_whiteouts;
  return NewName{layer, std::move(dir), whiteouts.contains(std::string(name))};
}

Result<NewObject> FileSystem::describe_new(Node& parent, const Caller& caller, mode_t mode,
                                           dev_t rdev, std::string_view symlink_target) {
  const auto uid = options_.uids.to_disk(caller.uid);
  const auto gid = options_.gids.to_disk(caller.gid);
  if (!uid || !gid) {
    return Errno(EOVERFLOW);
  }
  LFS_ASSIGN(const Located located, locate(parent));
  LFS_ASSIGN(const Observed above, observe(located.at(), parent.layer));
  NewObject object{{*uid, *gid, mode, rdev}, std::string(symlink_target), {}, {}};
  if (!S_ISLNK(mode)) {
    LFS_ASSIGN(const auto parent_default, sys::get_xattr(located.at(), kAclDefaultXattr));
    LFS_ASSIGN(InheritedAcl inherited,
               inherit_acl(parent_default, mode, caller.umask, S_ISDIR(mode)));
    object.identity.mode = (mode & S_IFMT) | (inherited.mode & 07777);
    object.access_acl = std::move(inherited.access);
    object.default_acl = std::move(inherited.default_acl);
  }
  // fs/inode.c: inode_init_owner
  if ((above.identity.mode & S_ISGID) != 0) {
    object.identity.gid = above.identity.gid;
    if (S_ISDIR(mode)) {
      object.identity.mode |= S_ISGID;
    }
  }
  return object;
}

bool FileSystem::may_create_directly(const NewName& where, mode_t mode) const {
  // The kernel has taken the bit from a caller who may not set it for the directory's
  // group (fs/inode.c: mode_strip_sgid), and would take it from one who may by a
  // supplementary group, which the daemon does not assume.
  if ((mode & S_ISGID) != 0) {
    return false;
  }
  // A directory of the init layer only carries entries; what new ones inherit is said by
  // the lower's.
  return where.layer == upper_.get() && !where.whiteout && !where.layer->overrides() &&
         options_.uids.is_identity() && options_.gids.is_identity();
}

// One system call makes the whole object with the caller's ids and umask and what the
// directory's default ACL and set-group-id bit say, so nothing half-made can be seen.
Result<UniqueFd> FileSystem::create_directly(const NewName& where, const std::string& name,
                                             const Caller& caller, mode_t mode, dev_t rdev,
                                             std::string_view symlink_target) {
  const sys::At at{where.dir->get(), name.c_str()};
  const CallerIdentity as_caller(caller.uid, caller.gid, caller.umask);
  LFS_TRY(as_caller.status());
  if (S_ISREG(mode)) {
    return sys::open_at(at, O_RDWR | O_CREAT | O_EXCL, mode & 07777);
  }
  if (S_ISDIR(mode)) {
    LFS_TRY(sys::mkdir_at(at, mode & 07777));
  } else if (S_ISLNK(mode)) {
    LFS_TRY(sys::symlink_at(symlink_target, at));
  } else {
    LFS_TRY(sys::mknod_at(at, mode, rdev));
  }
  return UniqueFd();
}

void FileSystem::names_changed(Node& dir, const NewName& where) {
  dir.dir->generation.change();
  if (dir.place != Place::Writable || dir.layer == where.layer->index()) {
    return;
  }
  const struct timespec times[2] = {{0, UTIME_OMIT}, {0, UTIME_NOW}};
  const auto shown = directory_fd(dir, dir.layer);
  ignore(shown ? sys::utimens_at({(*shown)->get()}, times) : Status(shown.error()),
         "the change of names itself is done");
}

void FileSystem::show_name(Node& parent, MergedDirectory& listing, std::string_view name,
                           unsigned char type, const NewName& where) {
  names_changed(parent, where);
  listing.visible.insert(name, type, where.layer->index(), where.whiteout ? kExistsBelow : 0);
  auto& whiteouts = where.layer == upper_.get() ? listing.upper_whiteouts : listing.init_whiteouts;
  whiteouts.erase(std::string(name));
}

Result<FileSystem::Creation> FileSystem::create_node(NodeId parent_id, std::string_view name_view,
                                                     const Caller& caller, mode_t mode, dev_t rdev,
                                                     std::string_view symlink_target) {
  LFS_TRY(check_new_name(name_view));
  if (S_ISCHR(mode) && rdev == 0) {
    return Errno(EPERM);  // it would be a whiteout, as on overlayfs (ovl_mknod)
  }
  const std::string name(name_view);
  const ExclusiveTree lock(tree_);
  LFS_ASSIGN(Node * parent, node_of(parent_id));
  LFS_ASSIGN(const SharedListing listing, listing_of(*parent));
  if (listing->visible.find(name) != nullptr) {
    return Errno(EEXIST);
  }
  LFS_ASSIGN(const NewName where, prepare_name(*parent, name, *listing, lock));
  const LayerIndex layer = where.layer->index();
  const DirSource* const above = parent->dir->source_in(layer);
  if (S_ISDIR(mode) && where.layer == init_.get() && above == nullptr) {
    return Errno(EIO);
  }
  Result<UniqueFd> created = Errno(EACCES);
  if (may_create_directly(where, mode)) {
    created = create_directly(where, name, caller, mode, rdev, symlink_target);
  }
  if (!created && is_not_permitted(created.error())) {
    // The kernel has checked the caller's permission on the merged directory; the stored
    // one may say otherwise (supplementary groups, ids that are not stored).
    LFS_ASSIGN(const NewObject object, describe_new(*parent, caller, mode, rdev, symlink_target));
    LFS_ASSIGN(Staged staged, where.layer->stage_new(object));
    if (S_ISDIR(mode) && where.whiteout) {
      // Opaque before it is visible, or what the whiteout hides would shine through.
      LFS_TRY(where.layer->marks().set_opaque(staged.entry.at()));
    }
    LFS_TRY(
        where.layer->publish(staged.entry, S_ISDIR(mode), where.dir->get(), name, where.whiteout));
    created = std::move(staged.fd);
  }
  if (!created) {
    return created.error();
  }
  const auto observed =
      observe(*created ? sys::At{created->get()} : sys::At{where.dir->get(), name.c_str()}, layer);
  if (observed || !take_name_back(where, name)) {
    show_name(*parent, *listing, name, static_cast<std::uint8_t>(IFTODT(mode)), where);
  }
  if (!observed) {
    return observed.error();
  }
  Node fresh;
  fresh.layer = layer;
  fresh.place = Place::Writable;
  fresh.type = static_cast<std::uint8_t>(IFTODT(mode));
  fresh.content = Content::Here;
  fresh.ino = inos_.shown(sys::device_of(observed->st), observed->st.stx_ino);
  if (S_ISDIR(mode)) {
    fresh.dir = std::make_unique<DirState>();
    fresh.dir->view = parent->dir->view.child(name);
    if (where.layer == init_.get()) {
      fresh.dir->sources.push_back({layer, false, above->path.child(name)});
    }
  }
  Node* node = table_.add(*parent, name, std::move(fresh));
  if (S_ISDIR(mode)) {
    listings_.put(node->id, std::make_shared<MergedDirectory>());
  }
  Creation creation{};
  if (*created) {
    creation.fd = share(std::move(*created));
    descriptors_.put(DescriptorKey::writing(node->id), creation.fd);
  }
  const auto attr = attributes_of(*node, *observed);
  if (!attr) {
    forget(node->id, 1);
    return attr.error();
  }
  creation.entry = {node->id, *attr};
  return creation;
}

bool FileSystem::take_name_back(const NewName& where, const std::string& name) {
  Workdir& work = where.layer->workdir();
  const TempEntry gone(work.fd(), work.temp_name());
  return where.whiteout ? leave_whiteout(*where.layer, where.dir->get(), name, gone.at()).ok()
                        : sys::rename_at({where.dir->get(), name.c_str()}, gone.at()).ok();
}

Result<FileSystem::Creation> FileSystem::create_nameless(NodeId parent_id, const Caller& caller,
                                                         mode_t mode) {
  const ExclusiveTree lock(tree_);
  LFS_ASSIGN(Node * parent, node_of(parent_id));
  if (!parent->is_dir()) {
    return Errno(ENOTDIR);
  }
  if (!upper_) {
    return Errno(EROFS);
  }
  LFS_TRY(copy_up_directory(*parent, lock));
  WritableLayer& layer = parent->layer == upper_->index() ? *upper_ : *init_;
  LFS_ASSIGN(SharedFd dir, directory_fd(*parent, layer.index()));
  const NewName where{&layer, std::move(dir), false};
  LFS_ASSIGN(const NewObject object, describe_new(*parent, caller, mode, 0, {}));
  LFS_ASSIGN(Staged staged, layer.stage_new(object));
  LFS_ASSIGN(const Observed observed, observe({staged.fd.get()}, layer.index()));
  Node fresh;
  fresh.layer = layer.index();
  fresh.place = Place::Parked;
  fresh.type = DT_REG;
  fresh.content = Content::Here;
  fresh.ino = inos_.shown(sys::device_of(observed.st), observed.st.stx_ino);
  fresh.extras().parked_name = staged.entry.release();
  Node* node = table_.add_nameless(std::move(fresh));
  Creation creation{};
  creation.fd = share(std::move(staged.fd));
  descriptors_.put(DescriptorKey::writing(node->id), creation.fd);
  LFS_ASSIGN(const struct stat attr, attributes_of(*node, observed));
  creation.entry = {node->id, attr};
  return creation;
}

Result<NodeEntry> FileSystem::link(NodeId id, NodeId new_parent, std::string_view name_view) {
  LFS_TRY(check_new_name(name_view));
  const std::string name(name_view);
  Need need = Need::Attributes;
  std::optional<DirSource> below;
  {
    const SharedTree lock(tree_);
    LFS_ASSIGN(Node * node, node_of(id));
    need = need_to_move(*node);
    const bool has_lower_name =
        node->is_below() && node->parent != nullptr && !(node->extra && node->extra->detached_dir);
    const DirSource* const dir =
        has_lower_name ? node->parent->dir->source_in(node->layer) : nullptr;
    if (dir != nullptr && node->type == DT_REG) {
      LFS_ASSIGN(const Content content, content_of(*node));
      if (content == Content::Here) {
        below = DirSource{node->layer, false, dir->path.child(node->name)};
      }
    }
  }
  LFS_TRY(copy_up(id, need));
  const ExclusiveTree lock(tree_);
  LFS_ASSIGN(Node * node, node_of(id));
  LFS_ASSIGN(Node * parent, node_of(new_parent));
  LFS_ASSIGN(const SharedListing listing, listing_of(*parent));
  if (listing->visible.find(name) != nullptr) {
    return Errno(EEXIST);
  }
  LFS_ASSIGN(const NewName where, prepare_name(*parent, name, *listing, lock));
  if (where.layer->index() != node->layer) {
    return Errno(EXDEV);  // one of the two is private to the init layer
  }
  LFS_TRY(redirect_metacopy(*node, lock));
  if (below && node->content == Content::Below && node->extra && !node->extra->data) {
    // What is linked is read soon, and to follow the redirect takes eight calls a directory.
    node->extra->data = std::move(below);
  }
  LFS_ASSIGN(const Located located, locate(*node));
  if (node->parent == nullptr || node->place == Place::Indexed || node->parent->dir->impure) {
    LFS_TRY(mark_impure(*parent, lock));
  }
  // Before the change: the node must be known by its file once there are two names.
  LFS_ASSIGN(const struct statx st, sys::stat_at(located.at()));
  if (!where.whiteout) {
    LFS_TRY(sys::link_at(located.at(), {where.dir->get(), name.c_str()}));
  } else {
    TempEntry entry(where.layer->workdir().fd(), where.layer->workdir().temp_name());
    LFS_TRY(sys::link_at(located.at(), entry.at()));
    LFS_TRY(where.layer->publish(entry, false, where.dir->get(), name, true));
  }
  show_name(*parent, *listing, name, node->type, where);
  if (node->place == Place::Parked) {
    ignore(sys::unlink_at(located.at(), sys::UnlinkKind::File), "work/ is swept at the next mount");
    node->extra->parked_name.clear();
    node->place = Place::Writable;
  }
  table_.set_file({sys::device_of(st), st.stx_ino, kWritableKey}, *node);
  table_.add_alias(*node, *parent, name);
  if (node->place == Place::Indexed) {
    node->extra->linked_in_upper = true;
  }
  table_.ref(*node);
  const auto attr = attributes_of(*node);
  if (!attr) {
    forget(node->id, 1);
    return attr.error();
  }
  return NodeEntry{node->id, *attr};
}

void FileSystem::note_whiteout(MergedDirectory& listing, LayerIndex layer, std::string_view name) {
  const bool upper = upper_ && layer == upper_->index();
  (upper ? listing.upper_whiteouts : listing.init_whiteouts).emplace(name);
}

Status FileSystem::leave_whiteout(WritableLayer& layer, int from, const std::string& name,
                                  sys::At to) {
  const MarkWriter& marks = layer.marks();
  const sys::At at{from, name.c_str()};
  const bool at_once = marks.form() == WhiteoutForm::Overlay && marks.has_rename_whiteout();
  const bool must_sync = layer.may_lose_order();
  if (at_once && !must_sync) {
    return sys::rename_at(at, to, RENAME_WHITEOUT);
  }
  // CRASH: the marker hides what is below while the object is still there, which wins
  // over it; only then does the object go.
  const MarkWriter marker(WhiteoutForm::DotWh, marks.xattr_namespace(), false);
  const std::string marker_name = std::string(kWhiteoutPrefix) + name;
  const auto marked = marker.make_whiteout(from, name);
  if (!marked && marked.error().value() != EEXIST) {  // a crash may have left it
    return marked.error();
  }
  // With what stands there, which may be a copy that nothing else has put on disk.
  auto moved = must_sync ? WritableLayer::sync({from, "."}) : Status();
  if (moved) {
    moved = sys::rename_at(at, to, at_once ? RENAME_WHITEOUT : 0);
  }
  if (!moved) {
    ignore(marker.remove_whiteout(from, name), "the rename's error is the one to report");
    return moved.error();
  }
  const bool replaced =
      at_once || (marks.form() == WhiteoutForm::Overlay && marks.make_whiteout(from, name).ok());
  if (replaced && (!must_sync || WritableLayer::sync({from, "."}).ok())) {
    ignore(sys::unlink_at({from, marker_name.c_str()}, sys::UnlinkKind::File),
           "both hide the name");
  }
  return {};
}

Status FileSystem::park(WritableLayer& layer, Node& node, int dir, const std::string& name,
                        bool hide) {
  const std::string parked = layer.workdir().temp_name();
  const sys::At to{layer.workdir().fd(), parked.c_str()};
  if (hide) {
    LFS_TRY(leave_whiteout(layer, dir, name, to));
  } else {
    LFS_TRY(sys::rename_at({dir, name.c_str()}, to));
  }
  node.extras().parked_name = parked;
  return {};
}

void FileSystem::detach_lower(Node& node) {
  if (const DirSource* const source = node.parent->dir->source_in(node.layer)) {
    node.extras().detached_dir = *source;
    node.extras().detached_name = node.name;
  }
}

Status FileSystem::remove_entry(Node& parent, const DirectoryListing::Entry& entry, Node& child,
                                MergedDirectory& listing, const ExclusiveTree& lock) {
  const std::string name(entry.name);
  const bool in_lower = stack_.at(entry.layer).role == LayerRole::Lower;
  const bool hide = in_lower || (entry.flags & kExistsBelow) != 0;
  LFS_ASSIGN(const NewName where, prepare_name(parent, name, listing, lock));
  // prepare_name may have built nothing new here, but a copy-up of the parent does not
  // change which layer has the entry.
  if (!child.is_dir() && child.type == DT_REG) {
    LFS_ASSIGN(const Content content, content_of(child));
    if (content == Content::Below) {
      // Without a name its data could not be found again.
      LFS_ASSIGN(const UniqueFd data, open_data_below(child, lock));
    }
  }
  const bool indexed = child.place == Place::Indexed;
  if (in_lower) {
    LFS_TRY(where.layer->marks().make_whiteout(where.dir->get(), name));
    if (indexed) {
      const auto counted = change_link_delta(child, -1);
      if (!counted && where.layer->marks().remove_whiteout(where.dir->get(), name).ok()) {
        return counted.error();
      }
    }
    if (!child.is_dir() && child.is_below()) {
      detach_lower(child);  // the sources of a directory tell where it is
    }
  } else {
    LFS_TRY(park(*where.layer, child, where.dir->get(), name, hide));
  }
  names_changed(parent, where);
  listing.visible.erase(name);
  if (hide) {
    note_whiteout(listing, where.layer->index(), name);
  }
  const bool named = table_.drop_name(child, parent, name);
  if (indexed) {
    if (!in_lower) {
      ignore(sys::unlink_at({where.layer->workdir().fd(), child.extra->parked_name.c_str()},
                            sys::UnlinkKind::File),
             "work/ is swept at the next mount");
      child.extra->parked_name.clear();
    }
    ignore(settle_index(child), "the index keeps an inode too long");
    return {};
  }
  if (in_lower) {
    return {};
  }
  if (named) {
    ignore(sys::unlink_at({where.layer->workdir().fd(), child.extra->parked_name.c_str()},
                          sys::UnlinkKind::File),
           "work/ is swept at the next mount");
    child.extra->parked_name.clear();
    return {};
  }
  child.place = Place::Parked;
  child.layer = where.layer->index();
  return {};
}

Status FileSystem::remove(NodeId parent_id, std::string_view name_view, sys::UnlinkKind kind) {
  const std::string name(name_view);
  NodeId copy_first = 0;
  for (;;) {
    if (copy_first != 0) {
      const auto copied = copy_up(copy_first, Need::Attributes);
      forget(copy_first, 1);
      LFS_TRY(copied);
    }
    const ExclusiveTree lock(tree_);
    LFS_ASSIGN(Node * parent, node_of(parent_id));
    LFS_ASSIGN(const SharedListing listing, listing_of(*parent));
    const DirectoryListing::Entry* entry = listing->visible.find(name);
    if (entry == nullptr) {
      return Errno(ENOENT);
    }
    if (!upper_) {
      return Errno(EROFS);
    }
    std::optional<Observed> observed;
    LFS_ASSIGN(Node * child, child_of(*parent, *entry, *listing, observed, &lock));
    Status status;
    if (kind == sys::UnlinkKind::Directory && !child->is_dir()) {
      status = Errno(ENOTDIR);
    } else if (kind == sys::UnlinkKind::File && child->is_dir()) {
      status = Errno(EISDIR);
    } else if (child->is_dir()) {
      const auto content = listing_of(*child);
      status = !content                      ? Status(content.error())
               : (*content)->visible.empty() ? Status()
                                             : Status(Errno(ENOTEMPTY));
    } else if (child->place == Place::Lower) {
      // A lower file with further names: their count must outlive this mount, and is
      // kept with the copy in the index.
      LFS_ASSIGN(const Located located, locate(*child));
      LFS_ASSIGN(const struct statx st, sys::stat_at(located.at()));
      if (is_indexable(st)) {
        copy_first = child->id;
        continue;
      }
    }
    if (status) {
      status = remove_entry(*parent, *entry, *child, *listing, lock);
    }
    if (status && child->is_dir()) {
      listings_.drop(child->id);
    }
    const NodeId id = child->id;
    forget(id, 1);
    return status;
  }
}

}  // namespace layerfs
