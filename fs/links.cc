// Hard links of lower files. Their inode is copied up once, into the index of the work
// directory under a name made from the lower inode, and every name shows that copy, as
// overlayfs does with index=on. The number of names is kept in overlay.nlink, relative
// to the stored inode's own count.
#include <fcntl.h>

#include "fs/file_system.h"
#include "layers/link_index.h"

namespace layerfs {
std::string FileSystem::index_name(const struct statx& lower) const {
  return format_index_name({inos_.fsid_of(sys::device_of(lower)), lower.stx_ino});
}

bool FileSystem::is_indexable(const struct statx& lower) const {
  if (!options_.index || !upper_ || lower.stx_nlink < 2 || S_ISDIR(lower.stx_mode)) {
    return false;
  }
  const XattrNamespace ns = upper_->marks().xattr_namespace();
  const bool holds_marks = ns == XattrNamespace::Trusted ||
                           (ns == XattrNamespace::User && sys::takes_user_xattrs(lower.stx_mode));
  return holds_marks && inos_.fsid_of(sys::device_of(lower)) != 0;
}

void FileSystem::apply_origin(Node& node, const FileMarks& marks) {
  if (marks.origin) {
    node.ino = inos_.shown_by_fsid(marks.origin->fsid, marks.origin->ino).value_or(node.ino);
  }
}

void FileSystem::apply_file_marks(Node& fresh, const FileMarks& marks, const struct statx& st) {
  fresh.content = marks.metacopy ? Content::Below : Content::Here;
  if (marks.metacopy && marks.redirect) {
    fresh.extras().redirected = true;
  }
  apply_origin(fresh, marks);
  if (marks.nlink && marks.origin && options_.index) {
    NodeExtra& extra = fresh.extras();
    extra.index_name = format_index_name({marks.origin->fsid, marks.origin->ino});
    extra.link_delta = parse_link_delta(*marks.nlink);
    extra.linked_in_upper = st.stx_nlink > 1;
    fresh.place = Place::Indexed;
  }
}

Status FileSystem::find_in_index(Node& fresh, Observed& observed) {
  if (!is_indexable(observed.st)) {
    return {};
  }
  const std::string name = index_name(observed.st);
  const sys::At at{index_fd_->get(), name.c_str()};
  LFS_ASSIGN(const auto st, sys::try_stat_at(at));
  if (!st) {
    return {};
  }
  LFS_ASSIGN(const FileMarks marks, read_file_marks(at, st->stx_ino));
  const std::uint64_t ino = fresh.ino;
  fresh.layer = upper_->index();
  LFS_ASSIGN(observed, observe(at, fresh.layer));
  apply_file_marks(fresh, marks, observed.st);
  fresh.ino = ino;
  fresh.place = Place::Indexed;
  fresh.extras().index_name = name;
  return {};
}

Status FileSystem::publish_to_index(Node& node, Staged& staged, const struct statx& lower) {
  NodeExtra& extra = node.extras();
  // Names deleted before this are no longer counted by anybody else.
  const int delta = static_cast<int>(lower.stx_nlink) + extra.link_delta - 1;
  LFS_TRY(upper_->marks().set_nlink(staged.entry.at(), format_link_delta(delta)));
  const std::string name = index_name(lower);
  LFS_TRY(sys::rename_at(staged.entry.at(), {index_fd_->get(), name.c_str()}, RENAME_NOREPLACE));
  staged.entry.release();
  extra.index_name = name;
  extra.link_delta = delta;
  node.place = Place::Indexed;
  return {};
}

Status FileSystem::change_link_delta(Node& node, int by) {
  NodeExtra& extra = node.extras();
  LFS_TRY(upper_->marks().set_nlink({index_fd_->get(), extra.index_name.c_str()},
                                    format_link_delta(extra.link_delta + by)));
  extra.link_delta += by;
  return {};
}

Status FileSystem::link_from_index(Node& node, const ExclusiveTree& lock) {
  NodeExtra& extra = node.extras();
  if (node.parent == nullptr || extra.linked_in_upper) {
    return {};
  }
  LFS_TRY(copy_up_directory(*node.parent, lock));
  LFS_TRY(mark_impure(*node.parent, lock));
  LFS_ASSIGN(const SharedFd dir, directory_fd(*node.parent, upper_->index()));
  LFS_ASSIGN(const auto times, sys::KeptTimes::of(dir->get()));
  const sys::At at{dir->get(), node.name.c_str()};
  // CRASH: in this order the count can only be too high, which leaves an index entry
  // behind. Too low would drop the entry while a lower name still shows it.
  LFS_TRY(sys::link_at({index_fd_->get(), extra.index_name.c_str()}, at));
  const auto counted = change_link_delta(node, -1);
  const bool undone = !counted && sys::unlink_at(at, sys::UnlinkKind::File).ok();
  ignore(times.restore(), "the directory has a newer time");
  if (undone) {
    return counted.error();
  }
  extra.linked_in_upper = true;
  if (const SharedListing listing = listings_.find(node.parent->id)) {
    listing->visible.set(node.name, node.type, upper_->index(), kExistsBelow);
  }
  return {};
}

Status FileSystem::settle_index(Node& node) {
  NodeExtra& extra = node.extras();
  const sys::At at{index_fd_->get(), extra.index_name.c_str()};
  LFS_ASSIGN(const struct statx st, sys::stat_at(at));
  if (static_cast<int>(st.stx_nlink) + extra.link_delta > 0) {
    extra.linked_in_upper = st.stx_nlink > 1;
    return {};
  }
  const std::string parked = upper_->workdir().temp_name();
  LFS_TRY(sys::rename_at(at, {work_fd_->get(), parked.c_str()}));
  extra.parked_name = parked;
  extra.index_name.clear();
  extra.link_delta = 0;
  node.place = Place::Parked;
  return {};
}

}  // namespace layerfs
