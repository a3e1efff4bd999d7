// From names to nodes, and listings.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>

#include "fs/file_system.h"
#include "layers/path_text.h"
#include "layers/resolve.h"

namespace layerfs {

Status FileSystem::build_directory(Node& node, Node& parent, const DirectoryListing::Entry& entry,
                                   const MergedDirectory& listing, sys::At at,
                                   const struct statx& st) {
  node.dir = std::make_unique<DirState>();
  DirState& dir = *node.dir;
  dir.view = parent.dir->view.child(entry.name);
  const bool exists_below = (entry.flags & kExistsBelow) != 0;
  const bool in_upper = upper_ && entry.layer == upper_->index();
  if (in_upper) {
    LFS_ASSIGN(const DirMarks marks, read_dir_marks(at));
    dir.impure = marks.impure;
    dir.xattr_whiteouts = marks.opaque == Opaque::Whiteouts;
    const bool replaced = listing.upper_whiteouts.contains(std::string(entry.name));
    if (marks.redirect && marks.opaque != Opaque::Yes) {
      LFS_ASSIGN(const auto components, parse_redirect(*marks.redirect));
      dir.view = is_absolute_redirect(*marks.redirect) ? LayerPath() : parent.dir->view;
      for (const std::string& component : components) {
        dir.view = dir.view.child(component);
      }
      NameWalk walk(stack_, parent.dir->sources, entry.name);
      walk.start_below(entry.layer);
      LFS_TRY(walk.follow_redirect(*marks.redirect));
      for (;;) {
        LFS_ASSIGN(const auto found, walk.next());
        if (!found || !S_ISDIR(found->st.stx_mode)) {
          break;
        }
        dir.sources.push_back(
            {found->layer, found->marks.opaque == Opaque::Whiteouts, found->path});
      }
    } else if (marks.opaque != Opaque::Yes && !replaced && exists_below) {
      LFS_ASSIGN(dir.sources, resolve_directory(stack_, parent.dir->sources, entry.name,
                                                static_cast<LayerIndex>(entry.layer + 1), true));
    }
  } else {
    LFS_ASSIGN(dir.sources, resolve_directory(stack_, parent.dir->sources, entry.name, entry.layer,
                                              exists_below));
    if (dir.sources.empty()) {
      return Errno(EIO);  // the layer changed under the mount
    }
    // The init layer's directories only carry entries where a lower has the directory.
    const auto carrier = std::find_if(dir.sources.begin(), dir.sources.end(), [&](const auto& s) {
      return stack_.at(s.layer).role == LayerRole::Lower;
    });
    node.layer = carrier == dir.sources.end() ? dir.sources.front().layer : carrier->layer;
  }
  node.place = writable(node.layer) != nullptr ? Place::Writable : Place::Lower;
  struct statx bottom = st;
  if (!dir.sources.empty() && dir.sources.back().layer != entry.layer) {
    LFS_ASSIGN(const UniqueFd fd, open_source(stack_, dir.sources.back()));
    LFS_ASSIGN(bottom, sys::stat_at({fd.get()}));
  }
  node.ino = inos_.shown(sys::device_of(bottom), bottom.stx_ino);
  return {};
}

Result<Node*> FileSystem::find_hard_link(Node& parent, std::string_view name,
                                         const Observed& observed, Node& fresh,
                                         const ExclusiveTree* exclusive) {
  const FileKey key{sys::device_of(observed.st), observed.st.stx_ino,
                    fresh.place == Place::Lower ? fresh.layer : kWritableKey};
  const LayerIndex layer = fresh.layer;
  if (Node* added = table_.add_file(key, parent, name, std::move(fresh))) {
    return added;
  }
  if (exclusive == nullptr) {
    return nullptr;
  }
  Node* known = table_.find_file_and_ref(key);
  if (known->place == Place::Parked && known->parent == nullptr) {
    // Deleted under all the names we knew; this is another.
    ignore(
        sys::unlink_at({writable(known->layer)->workdir().fd(), known->extra->parked_name.c_str()},
                       sys::UnlinkKind::File),
        "work/ is swept at the next mount");
    known->extra->parked_name.clear();
    known->place = Place::Writable;
    known->layer = layer;
  }
  table_.add_alias(*known, parent, name);
  return known;
}

// A file of which only the attributes are here has the size of its data below, and that is not
// 0. CRASH: btrfs may keep all of it but the size (Linux fs/btrfs/tree-log.c: fill_inode_item).
Status FileSystem::restore_size(Node& parent, const std::string& name, sys::At at, Node& fresh,
                                const ExclusiveTree& lock) {
  fresh.parent = &parent;
  fresh.name = name;
  const auto data = open_data_below(fresh, lock);
  fresh.parent = nullptr;
  fresh.name.clear();
  if (!data) {
    return {};  // whoever reads it is told
  }
  LFS_ASSIGN(const struct statx below, sys::stat_at({data->get()}));
  LFS_ASSIGN(const UniqueFd stored, sys::open_at(at, O_WRONLY | O_NONBLOCK));
  LFS_ASSIGN(const auto times, sys::KeptTimes::of(stored.get()));
  LFS_TRY(sys::truncate_fd(stored.get(), static_cast<off_t>(below.stx_size)));
  return times.restore();
}

Result<Node*> FileSystem::instantiate(Node& parent, const DirectoryListing::Entry& entry,
                                      const MergedDirectory& listing, Observed& observed,
                                      const ExclusiveTree* exclusive) {
  const std::string name(entry.name);
  LFS_ASSIGN(const SharedFd dir, directory_fd(parent, entry.layer));
  const sys::At at{dir->get(), name.c_str()};
  auto seen = observe(at, entry.layer);
  if (!seen) {
    // The listing says that it is there: a layer that lost it meanwhile is an error.
    return is_absence(seen.error()) ? Errno(EIO) : seen.error();
  }
  observed = *seen;
  Node fresh;
  fresh.layer = entry.layer;
  fresh.type = static_cast<std::uint8_t>(IFTODT(observed.identity.mode));
  fresh.place = writable(entry.layer) != nullptr ? Place::Writable : Place::Lower;
  if (S_ISDIR(observed.st.stx_mode)) {
    LFS_TRY(build_directory(fresh, parent, entry, listing, at, observed.st));
    const LayerIndex layer = fresh.layer;
    Node* node = table_.add(parent, name, std::move(fresh));
    if (layer != entry.layer) {
      LFS_ASSIGN(observed, observe(*node));
    }
    return node;
  }
  fresh.ino = inos_.shown(sys::device_of(observed.st), observed.st.stx_ino);
  const bool in_upper = upper_ && entry.layer == upper_->index();
  if (in_upper && parent.dir->impure) {
    LFS_ASSIGN(const FileMarks marks, read_file_marks(at, observed.st.stx_ino));
    apply_file_marks(fresh, marks, observed.st);
    if (fresh.content == Content::Below && observed.st.stx_size == 0) {
      if (exclusive == nullptr) {
        return nullptr;
      }
      LFS_TRY(restore_size(parent, name, at, fresh, *exclusive));
      LFS_ASSIGN(observed, observe(at, entry.layer));
    }
  } else if (stack_.at(entry.layer).role == LayerRole::Init) {
    LFS_ASSIGN(const FileMarks marks, read_file_marks(at, observed.st.stx_ino));
    apply_origin(fresh, marks);
  }
  if (observed.st.stx_nlink > 1 && fresh.place == Place::Lower && options_.index) {
    // The copy in the index, if there is one, is what every name shows.
    LFS_TRY(find_in_index(fresh, observed));
  }
  observed.shown_ino = fresh.ino;
  const bool separate = fresh.place == Place::Lower && !options_.index;
  // In the index it may have no other stored name, and still be what several names show.
  const bool shared = observed.st.stx_nlink > 1 || fresh.place == Place::Indexed;
  if (shared && !separate) {
    return find_hard_link(parent, name, observed, fresh, exclusive);
  }
  return table_.add(parent, name, std::move(fresh));
}

Result<Node*> FileSystem::child_of(Node& parent, const DirectoryListing::Entry& entry,
                                   const MergedDirectory& listing,
                                   std::optional<Observed>& observed,
                                   const ExclusiveTree* exclusive) {
  if (Node* node = table_.find_and_ref(parent, entry.name)) {
    return node;
  }
  Observed seen{};
  auto node = instantiate(parent, entry, listing, seen, exclusive);
  // A hard link may have been found under another name, whose attributes count.
  if (node && (*node == nullptr || !(*node)->extra)) {
    observed = seen;
  }
  return node;
}

Result<NodeEntry> FileSystem::lookup(NodeId parent, std::string_view name) {
  {
    const SharedTree lock(tree_);
    LFS_ASSIGN(const auto entry, lookup_locked(parent, name, nullptr));
    if (entry) {
      return *entry;
    }
  }
  const ExclusiveTree lock(tree_);
  LFS_ASSIGN(const auto entry, lookup_locked(parent, name, &lock));
  return *entry;
}

Result<std::optional<NodeEntry>> FileSystem::lookup_locked(NodeId parent_id, std::string_view name,
                                                           const ExclusiveTree* exclusive) {
  LFS_ASSIGN(Node * parent, node_of(parent_id));
  if (name.size() > kMaxNameBytes) {
    return Errno(ENAMETOOLONG);
  }
  LFS_ASSIGN(const SharedListing listing, listing_of(*parent));
  const DirectoryListing::Entry* entry = listing->visible.find(name);
  if (entry == nullptr) {
    return Errno(ENOENT);
  }
  std::optional<Observed> observed;
  LFS_ASSIGN(Node * node, child_of(*parent, *entry, *listing, observed, exclusive));
  if (node == nullptr) {
    return std::optional<NodeEntry>();
  }
  const auto attr = observed ? attributes_of(*node, *observed) : attributes_of(*node);
  if (!attr) {
    forget(node->id, 1);
    return attr.error();
  }
  return std::optional<NodeEntry>(NodeEntry{node->id, *attr});
}

Result<FileSystem::ReadTo> FileSystem::read_directory(
    NodeId id, std::uint64_t offset, Listing kind, const std::function<bool(std::size_t)>& fits,
    const std::function<void(const ListedEntry&)>& add) {
  const SharedTree lock(tree_);
  LFS_ASSIGN(Node * dir, node_of(id));
  LFS_ASSIGN(const SharedListing listing, listing_of(*dir));
  // A reader keeps the generation of its start: what it reads after a change must not look
  // like a listing of the directory as it is then.
  const auto [after_cookie, generation] = offset == 0
                                              ? ListingPosition{0, dir->dir->generation.hand_out()}
                                              : ListingPosition::of(offset);
  const auto offset_of = [of = generation](std::uint64_t cookie) {
    return ListingPosition{cookie, of}.offset();
  };
  ReadTo end = dir->dir->generation.is(generation) ? ReadTo::End : ReadTo::OutdatedEnd;
  const auto add_dot = [&](std::string_view name, std::uint64_t cookie, const Node& of) {
    ListedEntry entry{name, offset_of(cookie), 0, {}};
    entry.attr.st_ino = of.ino;
    entry.attr.st_mode = S_IFDIR;
    add(entry);
  };
  if (after_cookie < DirectoryListing::kDotCookie) {
    if (!fits(1)) {
      return ReadTo::Here;
    }
    add_dot(".", DirectoryListing::kDotCookie, *dir);
  }
  if (after_cookie < DirectoryListing::kDotDotCookie) {
    if (!fits(2)) {
      return ReadTo::Here;
    }
    add_dot("..", DirectoryListing::kDotDotCookie, dir->parent != nullptr ? *dir->parent : *dir);
  }
  Status status;
  bool any = false;
  listing->visible.for_each_after(after_cookie, [&](const DirectoryListing::Entry& entry) {
    if (!fits(entry.name.size())) {
      end = ReadTo::Here;
      return false;
    }
    std::optional<Observed> observed;
    auto node = child_of(*dir, entry, *listing, observed, nullptr);
    ListedEntry listed{entry.name, offset_of(entry.cookie), 0, {}};
    if (node && *node == nullptr) {
      // A further name of a hard link: the kernel looks it up if it wants it.
      listed.attr.st_ino = observed->shown_ino;
      // Not the entry's: a device may be stored as a file.
      listed.attr.st_mode = observed->identity.mode & S_IFMT;
      add(listed);
    } else if (node && kind == Listing::Names) {
      listed.attr.st_ino = (*node)->ino;
      listed.attr.st_mode = static_cast<mode_t>(DTTOIF((*node)->type));
      add(listed);
      forget((*node)->id, 1);
    } else if (node) {
      const auto attr = observed ? attributes_of(**node, *observed) : attributes_of(**node);
      if (attr) {
        listed.id = (*node)->id;
        listed.attr = *attr;
        add(listed);
      } else {
        forget((*node)->id, 1);
        status = attr.error();
      }
    } else {
      status = node.error();
    }
    any = any || status.ok();
    return status.ok();
  });
  // What was read before the error is delivered; the reader meets the error next time.
  if (!status) {
    return any ? Result<ReadTo>(ReadTo::Here) : status.error();
  }
  return end;
}

}  // namespace layerfs
