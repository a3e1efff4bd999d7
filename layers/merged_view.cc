#include "layers/merged_view.h"

#include <fcntl.h>

#include <algorithm>

#include "layers/path_text.h"
#include "layers/resolve.h"
#include "layers/shown_xattrs.h"
#include "layers/sys/bulk.h"
#include "layers/sys/quiet_open.h"

namespace layerfs {

Result<int> ViewDirectory::open(LayerIndex layer) {
  for (std::size_t i = 0; i < sources_.size(); ++i) {
    if (sources_[i].layer != layer) {
      continue;
    }
    if (!fds_[i]) {
      LFS_ASSIGN(fds_[i], open_source(*stack_, sources_[i]));
    }
    return fds_[i].get();
  }
  return Errno(EIO);
}

void ViewDirectory::close() {
  for (UniqueFd& fd : fds_) {
    fd.reset();
  }
}

Result<MergedView> MergedView::open(const LayerStack& stack, ViewRange range) {
  MergedView view;
  view.stack_ = &stack;
  view.range_ = range;
  for (LayerIndex i = range.first; i < stack.size(); ++i) {
    const sys::At root{stack.at(i).root.get()};
    LFS_ASSIGN(const DirMarks marks, read_dir_marks(root));
    view.root_.sources.push_back({i, marks.opaque == Opaque::Whiteouts, LayerPath()});
    if (i == range.first) {
      view.root_.layer = i;
      LFS_ASSIGN(view.root_.st, sys::stat_at(root));
      LFS_ASSIGN(view.root_.identity,
                 read_identity(root, view.root_.st, stack.at(i).override_form));
    }
    if (marks.opaque == Opaque::Yes) {
      break;
    }
  }
  if (range.index >= 0) {
    LFS_TRY(sys::for_each_entry(range.index, [&view](const sys::DirEntry& entry) -> Status {
      if (const auto key = parse_index_name(entry.name)) {
        view.indexed_.push_back(*key);
      }
      return {};
    }));
    std::sort(view.indexed_.begin(), view.indexed_.end());
  }
  return view;
}

Result<std::vector<MergeInput>> MergedView::inputs(ViewDirectory& dir, LayerIndex from,
                                                   LayerIndex to) const {
  std::vector<MergeInput> inputs;
  for (const DirSource& source : dir.sources()) {
    if (source.layer >= from && source.layer < to) {
      LFS_ASSIGN(const int fd, dir.open(source.layer));
      inputs.push_back({source.layer, LayerRole::Upper, source.xattr_whiteouts, fd});
    }
  }
  return inputs;
}

Result<std::unique_ptr<MergedNames>, Failure> MergedView::names(ViewDirectory& dir, LayerIndex from,
                                                                LayerIndex to, SortSpace& space,
                                                                std::string_view path,
                                                                std::uint64_t most) const {
  const auto read = inputs(dir, from, to);
  return read ? MergedNames::read(*read, space, most, path) : cannot_read(path, read.error());
}

Result<MergedDirectory> MergedView::list(ViewDirectory& dir, LayerIndex from, LayerIndex to) const {
  LFS_ASSIGN(const std::vector<MergeInput> read, inputs(dir, from, to));
  return merge_directory(read);
}

Result<ViewEntry> MergedView::entry(ViewDirectory& dir, std::string_view name, LayerIndex layer,
                                    bool exists_below) const {
  ViewEntry entry;
  entry.name = name;
  entry.layer = layer;
  LFS_ASSIGN(const int fd, dir.open(layer));
  const sys::At at{fd, entry.name.c_str()};
  auto st = sys::stat_at(at);
  if (!st) {
    // It was listed: a layer that lost it meanwhile is an error.
    return is_absence(st.error()) ? Errno(EIO) : st.error();
  }
  entry.st = *st;
  const Layer& provider = stack_->at(layer);
  LFS_ASSIGN(entry.identity, read_identity(at, entry.st, provider.override_form));
  if (entry.is_directory()) {
    LFS_ASSIGN(entry.sources, resolve_directory(*stack_, dir.sources(), name, layer, exists_below));
    if (entry.sources.empty()) {
      return Errno(EIO);
    }
    return entry;
  }
  const bool below = layer > range_.first && entry.st.stx_nlink > 1 && !indexed_.empty();
  entry.links_are_all_names = layer > range_.first || indexed_.empty();
  if (below && sys::device_of(entry.st) == provider.device) {
    const IndexKey key{provider.fsid, entry.st.stx_ino};
    if (std::binary_search(indexed_.begin(), indexed_.end(), key)) {
      entry.index_name = format_index_name(key);
      const sys::At copy{range_.index, entry.index_name->c_str()};
      LFS_ASSIGN(entry.st, sys::stat_at(copy));
      entry.layer = range_.first;
      entry.links_are_all_names = false;
      LFS_ASSIGN(entry.identity,
                 read_identity(copy, entry.st, stack_->at(range_.first).override_form));
    }
  }
  return entry;
}

Result<std::optional<ViewEntry>> MergedView::find(ViewDirectory& dir, std::string_view name) const {
  const std::string plain(name);
  const std::string marker = std::string(kWhiteoutPrefix) + plain;
  for (const DirSource& source : dir.sources()) {
    LFS_ASSIGN(const int fd, dir.open(source.layer));
    LFS_ASSIGN(const auto st, sys::try_stat_at({fd, plain.c_str()}));
    bool is_shown = st && !is_whiteout_device(*st);
    if (is_shown && source.xattr_whiteouts && S_ISREG(st->stx_mode) && st->stx_size == 0) {
      LFS_ASSIGN(const bool hides, is_whiteout_by_xattr({fd, plain.c_str()}));
      is_shown = !hides;
    }
    if (is_shown) {
      LFS_ASSIGN(ViewEntry found, entry(dir, name, source.layer, true));
      return std::optional<ViewEntry>(std::move(found));
    }
    LFS_ASSIGN(const auto hidden, sys::try_stat_at({fd, marker.c_str()}));
    if (st || hidden) {
      break;
    }
  }
  return std::optional<ViewEntry>();
}

Result<sys::At> MergedView::at(ViewDirectory& dir, const ViewEntry& entry) const {
  if (entry.index_name) {
    return sys::At{range_.index, entry.index_name->c_str()};
  }
  LFS_ASSIGN(const int fd, dir.open(entry.layer));
  return sys::At{fd, entry.name.c_str()};
}

Status ViewObject::read_names() {
  if (names_read_) {
    return {};
  }
  LFS_ASSIGN(sys::At at, view_->at(*dir_, entry_));
  // What override_stat calls a regular file is one on disk too; a special file is one
  // there as well, and is not opened: it has no data.
  if (entry_.is_regular() && S_ISREG(entry_.st.stx_mode)) {
    LFS_ASSIGN(own_, sys::open_quietly_at(at, O_RDONLY | O_NONBLOCK));
    at = {own_.get()};
  }
  LFS_ASSIGN(names_, sys::list_xattrs(at));
  const bool marked =
      own_ && std::any_of(names_.begin(), names_.end(),
                          [](const std::string& name) { return is_internal_xattr(name); });
  if (marked) {
    LFS_ASSIGN(FileMarks marks, read_file_marks(at, 0));
    data_below_ = marks.metacopy;
    redirect_ = std::move(marks.redirect);
  }
  names_read_ = true;
  return {};
}

Result<const ViewObject::Xattrs*> ViewObject::xattrs() {
  LFS_TRY(read_names());
  if (!xattrs_) {
    Xattrs found;
    LFS_ASSIGN(const sys::At named, view_->at(*dir_, entry_));
    const sys::At at = own_ ? sys::At{own_.get()} : named;
    const OverrideForm form = view_->stack().at(entry_.layer).override_form;
    for (const std::string& name : shown_names(names_, form)) {
      if (!is_image_xattr(name)) {
        continue;
      }
      LFS_ASSIGN(auto value, get_shown_xattr(at, form, name));
      if (!value) {
        return Errno(EIO);  // listed a moment ago
      }
      found.emplace_back(name, without_capability_rootid(name, std::move(*value)));
    }
    std::sort(found.begin(), found.end());
    xattrs_ = std::move(found);
  }
  return &*xattrs_;
}

Status ViewObject::find_data() {
  if (data_found_) {
    return {};
  }
  LFS_TRY(read_names());
  if (!data_below_) {
    if (entry_.index_name) {
      place_ = {kInIndex, *entry_.index_name};
    } else {
      const auto& sources = dir_->sources();
      const auto source = std::find_if(sources.begin(), sources.end(),
                                       [&](const auto& s) { return s.layer == entry_.layer; });
      if (source == sources.end()) {
        return Errno(EIO);
      }
      place_ = {entry_.layer, join(source->path.text(), entry_.name)};
    }
    data_found_ = true;
    return {};
  }
  const LayerStack& stack = view_->stack();
  NameWalk walk(stack, dir_->sources(), entry_.name);
  walk.start_below(entry_.layer);
  std::optional<std::string> redirect = redirect_;
  for (;;) {
    if (redirect) {
      LFS_TRY(walk.follow_redirect(*redirect));
    }
    LFS_ASSIGN(const auto found, walk.next());
    if (!found || !S_ISREG(found->st.stx_mode)) {
      return Errno(ENODATA);  // data that is nowhere must not read as zeros
    }
    std::string path = found->path.text();
    LFS_ASSIGN(UniqueFd fd, sys::open_quietly_beneath(stack.at(found->layer).root.get(), path,
                                                      O_RDONLY | O_NONBLOCK));
    LFS_ASSIGN(FileMarks marks, read_file_marks({fd.get()}, 0));
    if (!marks.metacopy) {
      data_ = std::move(fd);
      place_ = {found->layer, std::move(path)};
      data_found_ = true;
      return {};
    }
    redirect = std::move(marks.redirect);
  }
}

Result<int> ViewObject::data() {
  LFS_TRY(find_data());
  const UniqueFd& fd = data_below_ ? data_ : own_;
  if (!fd) {
    return Errno(EIO);
  }
  return fd.get();
}

Result<std::pair<LayerIndex, std::string>> ViewObject::data_place() {
  LFS_TRY(find_data());
  return place_;
}

Result<std::string> ViewObject::link_target() {
  LFS_ASSIGN(const sys::At at, view_->at(*dir_, entry_));
  return sys::readlink_at(at);
}

bool is_image_xattr(std::string_view name) {
  return !is_internal_xattr(name) && name != "security.selinux" && name != "security.evm" &&
         !name.starts_with("security.apparmor") && name != "system.nfs4_acl";
}

std::string without_capability_rootid(std::string_view name, std::string value) {
  // struct vfs_ns_cap_data: a little-endian word with the revision in its top byte, then
  // 16 bytes of sets, then the root id of revision 3.
  constexpr std::size_t kRevision2Bytes = 20;
  constexpr std::size_t kRevision3Bytes = 24;
  if (name == "security.capability" && value.size() == kRevision3Bytes && value[3] == 3) {
    value[3] = 2;
    value.resize(kRevision2Bytes);
  }
  return value;
}

}  // namespace layerfs
