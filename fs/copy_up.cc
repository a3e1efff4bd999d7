// Copy-up: the one way by which an object of a lower layer comes to be changed.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>

#include "fs/file_system.h"
#include "layers/path_text.h"
#include "layers/resolve.h"
#include "layers/sys/quiet_open.h"

namespace layerfs {

// One copy-up a node at a time; others wait for that node's only.
class FileSystem::Claim {
 public:
  Claim(FileSystem& fs, NodeId id) : fs_(fs), id_(id) {
    std::unique_lock lock(fs_.in_flight_mutex_);
    fs_.in_flight_done_.wait(lock, [&] { return !fs_.in_flight_.contains(id_); });
    fs_.in_flight_.insert(id_);
  }
  Claim(const Claim&) = delete;
  Claim& operator=(const Claim&) = delete;
  ~Claim() {
    {
      const std::lock_guard lock(fs_.in_flight_mutex_);
      fs_.in_flight_.erase(id_);
    }
    fs_.in_flight_done_.notify_all();
  }

 private:
  FileSystem& fs_;
  NodeId id_;
};

Result<Content> FileSystem::content_of(Node& node) {
  const std::atomic_ref<Content> content(node.content);
  if (content.load(std::memory_order_relaxed) == Content::Unknown) {
    Content found = Content::Here;
    if (node.type == DT_REG) {
      LFS_ASSIGN(const Located located, locate(node));
      LFS_ASSIGN(const FileMarks marks, read_file_marks(located.at(), 0));
      found = marks.metacopy ? Content::Below : Content::Here;
    }
    content.store(found, std::memory_order_relaxed);
  }
  return content.load(std::memory_order_relaxed);
}

Result<bool> FileSystem::needs_copy_up(Node& node, Need need) {
  if (node.is_below()) {
    return true;
  }
  if (node.place == Place::Indexed && !node.extra->linked_in_upper && node.parent != nullptr) {
    return true;
  }
  if (need == Need::Attributes) {
    return false;
  }
  LFS_ASSIGN(const Content content, content_of(node));
  return content == Content::Below;
}

Status FileSystem::copy_up(NodeId id, Need need, std::uint64_t keep_bytes) {
  if (!upper_) {
    return Errno(EROFS);
  }
  {
    const SharedTree lock(tree_);
    LFS_ASSIGN(Node * node, node_of(id));
    LFS_ASSIGN(const bool needed, needs_copy_up(*node, need));
    if (!needed) {
      return {};
    }
  }
  const Claim claim(*this, id);
  bool fill = false;
  {
    const ExclusiveTree lock(tree_);
    LFS_ASSIGN(Node * node, node_of(id));
    if (node->is_dir()) {
      return copy_up_directory(*node, lock);
    }
    LFS_ASSIGN(const bool needed, needs_copy_up(*node, need));
    if (!needed) {
      return {};
    }
    if (node->place == Place::Indexed) {
      LFS_TRY(link_from_index(*node, lock));
    }
    LFS_ASSIGN(const bool still, needs_copy_up(*node, need));
    if (!still) {
      return {};
    }
    fill = !node->is_below();
    const bool may_stay_below = need == Need::Attributes && options_.metacopy &&
                                upper_->marks().has_xattrs() && node->parent != nullptr;
    if (!fill && may_stay_below && node->type == DT_REG) {
      return copy_up_file(*node, CopyContent::None, lock);
    }
    if (!fill && (node->type != DT_REG || keep_bytes == 0)) {
      return copy_up_file(*node, CopyContent::All, lock);
    }
  }
  return fill ? fill_metacopy(id, keep_bytes) : copy_up_data(id, keep_bytes);
}

Result<CopySource> FileSystem::copy_source(const Located& located, Node& node) {
  LFS_ASSIGN(const Observed observed, observe(node));
  CopySource source{located.at(),         observed.st,       -1,           CopyContent::All,
                    observed.st.stx_size, observed.identity, std::nullopt, form_of(node.layer)};
  const std::uint64_t fsid = inos_.fsid_of(sys::device_of(observed.st));
  if (fsid != 0 && !S_ISDIR(observed.identity.mode)) {
    source.origin = Origin{fsid, observed.st.stx_ino};
  }
  return source;
}

Status FileSystem::copy_up_directory(Node& dir, const ExclusiveTree& lock) {
  std::vector<Node*> chain;
  for (Node* at = &dir; at != nullptr && at->is_below(); at = at->parent) {
    chain.push_back(at);
  }
  for (auto it = chain.rbegin(); it != chain.rend(); ++it) {
    Node& node = **it;
    LFS_ASSIGN(const Located located, locate(node));
    LFS_ASSIGN(const CopySource source, copy_source(located, node));
    LFS_ASSIGN(Staged staged, upper_->stage_copy(source));
    LFS_TRY(publish_copy(node, staged, source.st, lock));
  }
  return {};
}

Status FileSystem::mark_impure(Node& dir, const ExclusiveTree& /*lock*/) {
  if (dir.dir->impure || !upper_->marks().has_xattrs() || dir.layer != upper_->index()) {
    return {};
  }
  LFS_ASSIGN(const SharedFd fd, directory_fd(dir, dir.layer));
  LFS_TRY(upper_->marks().set_impure({fd->get()}));
  dir.dir->impure = true;
  return {};
}

// Links made in the upper, removed again at the end of scope unless they are kept.
class FileSystem::OwnLinks {
 public:
  OwnLinks() = default;
  OwnLinks(OwnLinks&& other) noexcept : made_(std::exchange(other.made_, {})) {}
  OwnLinks& operator=(OwnLinks&&) = delete;
  ~OwnLinks() {
    for (const Made& link : made_) {
      ignore(sys::unlink_at({link.dir->get(), link.name.c_str()}, sys::UnlinkKind::File),
             "a copy of one name more");
    }
  }

  Status make(sys::At from, SharedFd dir, const std::string& name, SharedListing listing) {
    LFS_ASSIGN(const auto times, sys::KeptTimes::of(dir->get()));
    LFS_TRY(sys::link_at(from, {dir->get(), name.c_str()}));
    made_.push_back({std::move(dir), name, std::move(listing)});
    ignore(times.restore(), "the directory has a newer time");
    return {};
  }
  void keep(LayerIndex upper, std::uint8_t type) {
    for (const Made& link : std::exchange(made_, {})) {
      if (link.listing) {
        link.listing->visible.set(link.name, type, upper, kExistsBelow);
      }
    }
  }

 private:
  struct Made {
    SharedFd dir;
    std::string name;
    SharedListing listing;
  };
  std::vector<Made> made_;
};

// Of a file that the index does not take: whoever looked at another of its names goes on to
// see this object there, so what he changes by it must be stored there, too.
Result<FileSystem::OwnLinks> FileSystem::link_known_names(const Node& node, const Staged& staged,
                                                          const ExclusiveTree& lock) {
  OwnLinks links;
  if (node.extra) {
    for (const Alias& alias : node.extra->aliases) {
      LFS_TRY(copy_up_directory(*alias.parent, lock));
      LFS_ASSIGN(SharedFd dir, directory_fd(*alias.parent, upper_->index()));
      LFS_TRY(links.make(staged.entry.at(), std::move(dir), alias.name,
                         listings_.find(alias.parent->id)));
    }
  }
  return links;
}

Status FileSystem::publish_copy(Node& node, Staged& staged, const struct statx& lower,
                                const ExclusiveTree& lock) {
  const LayerIndex upper = upper_->index();
  if (node.parent == nullptr) {
    // Its name is gone: the copy is for those who have it open.
    node.extras().parked_name = staged.entry.release();
    node.extras().detached_dir.reset();
    node.place = Place::Parked;
  } else {
    Node& parent = *node.parent;
    if (!node.is_dir()) {
      LFS_TRY(copy_up_directory(parent, lock));
      LFS_TRY(mark_impure(parent, lock));
    }
    if (!node.is_dir() && is_indexable(lower)) {
      LFS_ASSIGN(const struct statx st, sys::stat_at(staged.entry.at()));
      LFS_TRY(publish_to_index(node, staged, lower));
      table_.set_file({sys::device_of(st), st.stx_ino, kWritableKey}, node);
      node.layer = upper;
      descriptors_.drop_data(node.id);
      LFS_TRY(link_from_index(node, lock));
    } else {
      LFS_ASSIGN(const SharedFd dir, directory_fd(parent, upper));
      LFS_ASSIGN(const auto times, sys::KeptTimes::of(dir->get()));
      LFS_ASSIGN(OwnLinks links, link_known_names(node, staged, lock));
      std::optional<struct statx> linked;
      if (node.extra && !node.extra->aliases.empty()) {
        LFS_ASSIGN(linked, sys::stat_at(staged.entry.at()));
      }
      LFS_TRY(sys::rename_at(staged.entry.at(), {dir->get(), node.name.c_str()}, RENAME_NOREPLACE));
      staged.entry.release();
      node.place = Place::Writable;
      ignore(times.restore(), "the copy is made; the directory has a newer time");
      links.keep(upper, node.type);
      if (!node.is_dir() && lower.stx_nlink > 1) {
        // Names of the lower file that are not known yet are of another object.
        table_.drop_files(node);
      }
      if (linked) {
        table_.set_file({sys::device_of(*linked), linked->stx_ino, kWritableKey}, node);
      }
    }
    if (const SharedListing listing = listings_.find(parent.id)) {
      listing->visible.set(node.name, node.type, upper, kExistsBelow);
    }
  }
  node.layer = upper;
  descriptors_.drop_data(node.id);
  copied_up_.files.fetch_add(1, std::memory_order_relaxed);
  copied_up_.bytes.fetch_add(staged.bytes_copied, std::memory_order_relaxed);
  return {};
}

Status FileSystem::copy_up_file(Node& node, CopyContent content, const ExclusiveTree& lock) {
  LFS_ASSIGN(const Located located, locate(node));
  LFS_ASSIGN(CopySource source, copy_source(located, node));
  // An empty file has nothing to leave below.
  const bool metadata_only = content == CopyContent::None && source.st.stx_size > 0;
  source.content = metadata_only ? CopyContent::None : CopyContent::All;
  source.size = metadata_only ? source.st.stx_size : 0;
  LFS_ASSIGN(Staged staged, upper_->stage_copy(source));
  if (metadata_only && is_indexable(source.st)) {
    // In the index it has no name by which its data could be found below.
    LFS_TRY(upper_->marks().set_redirect({staged.fd.get()},
                                         "/" + node.parent->dir->view.child(node.name).text()));
    node.extras().redirected = true;
  }
  LFS_TRY(publish_copy(node, staged, source.st, lock));
  node.content = metadata_only ? Content::Below : Content::Here;
  node.is_new_copy = !metadata_only;
  if (metadata_only) {
    copied_up_.metadata_only.fetch_add(1, std::memory_order_relaxed);
  }
  return {};
}

Status FileSystem::copy_up_data(NodeId id, std::uint64_t keep_bytes) {
  Located located;
  std::string name;
  CopySource source{};
  UniqueFd data;
  {
    const ExclusiveTree lock(tree_);
    LFS_ASSIGN(Node * node, node_of(id));
    LFS_ASSIGN(located, locate(*node));
    LFS_ASSIGN(source, copy_source(located, *node));
    if (source.st.stx_size == 0) {
      return copy_up_file(*node, CopyContent::All, lock);
    }
    LFS_ASSIGN(data, open_content(*node, O_RDONLY, &lock));
    name = located.name;
  }
  // The lower object cannot change, and the claim keeps others from copying it; its name
  // in the merged tree may change meanwhile.
  source.at = {located.dir->get(), name.c_str()};
  source.data_fd = data.get();
  source.size = std::min<std::uint64_t>(source.st.stx_size, keep_bytes);
  LFS_ASSIGN(Staged staged, upper_->stage_copy(source));
  const ExclusiveTree lock(tree_);
  LFS_ASSIGN(Node * node, node_of(id));
  LFS_TRY(publish_copy(*node, staged, source.st, lock));
  node->content = Content::Here;
  node->is_new_copy = true;
  // Whoever asked for the copy is about to write, and must not fail for want of a descriptor:
  // the copy may be shorter already.
  descriptors_.put(DescriptorKey::writing(id), share(std::move(staged.fd)));
  return {};
}

Status FileSystem::fill_metacopy(NodeId id, std::uint64_t keep_bytes) {
  UniqueFd from;
  UniqueFd to;
  {
    const ExclusiveTree lock(tree_);
    LFS_ASSIGN(Node * node, node_of(id));
    LFS_ASSIGN(from, open_data_below(*node, lock));
    LFS_ASSIGN(const Located located, locate(*node));
    LFS_ASSIGN(to, sys::open_at(located.at(), O_RDWR));
  }
  // CRASH: until the mark is cleared readers take the data from below, whatever part of
  // it is here already.
  LFS_ASSIGN(const struct statx st, sys::stat_at({to.get()}));
  const std::uint64_t size = std::min<std::uint64_t>(st.stx_size, keep_bytes);
  LFS_ASSIGN(const auto capability, sys::KeptCapability::of(to.get()));
  LFS_ASSIGN(const std::uint64_t bytes, sys::copy_content(from.get(), to.get(), size));
  // Without the mark the rest would read as zeros until it is cut off.
  LFS_TRY(sys::truncate_fd(to.get(), static_cast<off_t>(size)));
  LFS_TRY(capability.restore());
  const struct timespec times[2] = {{st.stx_atime.tv_sec, st.stx_atime.tv_nsec},
                                    {st.stx_mtime.tv_sec, st.stx_mtime.tv_nsec}};
  LFS_TRY(sys::utimens_at({to.get()}, times));
  if (!upper_->is_volatile()) {
    LFS_TRY(sys::fsync_fd(to.get()));
  }
  const ExclusiveTree lock(tree_);
  LFS_ASSIGN(Node * node, node_of(id));
  LFS_TRY(upper_->marks().clear_metacopy({to.get()}));
  node->content = Content::Here;
  node->is_new_copy = true;
  if (node->extra) {
    node->extra->redirected = false;
    node->extra->data.reset();
  }
  descriptors_.drop_data(id);
  copied_up_.bytes.fetch_add(bytes, std::memory_order_relaxed);
  return {};
}

FileSystem::Need FileSystem::need_to_move(const Node& node) {
  // A redirect that says where the data is may be too long to be stored.
  const bool nameable = node.type != DT_REG || node.parent == nullptr || node.is_dir() ||
                        node.parent->dir->view.text().size() + node.name.size() < kMaxRedirectBytes;
  return nameable ? Need::Attributes : Need::Data;
}

Status FileSystem::redirect_metacopy(Node& node, const ExclusiveTree& /*lock*/) {
  LFS_ASSIGN(const Content content, content_of(node));
  if (content != Content::Below || node.is_below() || (node.extra && node.extra->redirected) ||
      node.parent == nullptr) {
    return {};
  }
  LFS_ASSIGN(const Located located, locate(node));
  LFS_TRY(upper_->marks().set_redirect(located.at(),
                                       "/" + node.parent->dir->view.child(node.name).text()));
  node.extras().redirected = true;
  return {};
}

Result<UniqueFd> FileSystem::open_data_below(Node& node, const ExclusiveTree& /*lock*/) {
  const auto open = [&](const DirSource& at) {
    return sys::open_quietly_beneath(stack_.at(at.layer).root.get(), at.path.text(),
                                     O_RDONLY | O_NONBLOCK);
  };
  if (node.extra && node.extra->data) {
    return open(*node.extra->data);
  }
  LFS_ASSIGN(const Located located, locate(node));
  LFS_ASSIGN(FileMarks marks, read_file_marks(located.at(), 0));
  static const std::vector<DirSource> kNowhere;
  const bool named = node.parent != nullptr;
  NameWalk walk(stack_, named ? node.parent->dir->sources : kNowhere, node.name);
  walk.start_below(node.layer);
  for (;;) {
    if (marks.redirect) {
      LFS_TRY(walk.follow_redirect(*marks.redirect));
    }
    LFS_ASSIGN(const auto found, walk.next());
    if (!found || !S_ISREG(found->st.stx_mode)) {
      return Errno(EIO);  // data that is nowhere must not read as zeros
    }
    const DirSource at{found->layer, false, found->path};
    LFS_ASSIGN(UniqueFd fd, open(at));
    LFS_ASSIGN(marks, read_file_marks({fd.get()}, 0));
    if (!marks.metacopy) {
      // Shorter data is of another file; what it lacks must not read as zeros.
      LFS_ASSIGN(const struct statx shown, sys::stat_at(located.at()));
      LFS_ASSIGN(const struct statx st, sys::stat_at({fd.get()}));
      if (st.stx_size < shown.stx_size) {
        return Errno(EIO);
      }
      node.extras().data = at;
      return fd;
    }
  }
}

Result<UniqueFd> FileSystem::open_content(Node& node, int flags, const ExclusiveTree* lock) {
  if (node.type != DT_REG) {
    // The kernel reads nothing else through us; a device of a layer must not be opened.
    return Errno(node.is_dir() ? EISDIR : EINVAL);
  }
  LFS_ASSIGN(const Content content, content_of(node));
  if (content == Content::Below) {
    if (lock == nullptr) {
      return Errno(EAGAIN);
    }
    return open_data_below(node, *lock);
  }
  LFS_ASSIGN(const Located located, locate(node));
  return node.is_below() ? sys::open_quietly_at(located.at(), flags | O_NONBLOCK)
                         : sys::open_at(located.at(), flags | O_NONBLOCK);
}

Result<SharedFd> FileSystem::data(NodeId id, Access access) {
  if (access == Access::Write) {
    LFS_TRY(copy_up(id, Need::Data));
  }
  const DescriptorKey key =
      access == Access::Write ? DescriptorKey::writing(id) : DescriptorKey::reading(id);
  const int flags = access == Access::Write ? O_RDWR : O_RDONLY;
  {
    const SharedTree lock(tree_);
    if (SharedFd fd = descriptors_.find(DescriptorKey::writing(id))) {
      return fd;
    }
    if (SharedFd fd = descriptors_.find(key)) {
      return fd;
    }
    LFS_ASSIGN(Node * node, node_of(id));
    auto opened = open_content(*node, flags, nullptr);
    if (opened) {
      SharedFd fd = share(std::move(*opened));
      descriptors_.put(key, fd);
      return fd;
    }
    if (opened.error().value() != EAGAIN) {
      return opened.error();
    }
  }
  const ExclusiveTree lock(tree_);
  LFS_ASSIGN(Node * node, node_of(id));
  LFS_ASSIGN(UniqueFd opened, open_content(*node, flags, &lock));
  SharedFd fd = share(std::move(opened));
  descriptors_.put(key, fd);
  return fd;
}

bool FileSystem::is_writable_data(NodeId id) {
  const SharedTree lock(tree_);
  const auto node = node_of(id);
  if (!node || (*node)->is_below()) {
    return false;
  }
  const auto content = content_of(**node);
  return content && *content == Content::Here;
}

}  // namespace layerfs
