#include "fs/file_system.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/sysmacros.h>

#include <algorithm>

#include "layers/identity.h"
#include "layers/resolve.h"

namespace layerfs {
FileSystem::FileSystem(LayerStack stack, std::unique_ptr<WritableLayer> upper,
                       std::unique_ptr<WritableLayer> init, FileSystemOptions options)
    : stack_(std::move(stack)),
      upper_(std::move(upper)),
      init_(std::move(init)),
      options_(std::move(options)),
      inos_(stack_),
      descriptors_(options_.descriptor_limit),
      listings_(options_.listing_entry_limit) {}

FileSystem::~FileSystem() = default;

Result<std::unique_ptr<FileSystem>> FileSystem::create(LayerStack stack,
                                                       std::unique_ptr<WritableLayer> upper,
                                                       std::unique_ptr<WritableLayer> init,
                                                       FileSystemOptions options) {
  std::unique_ptr<FileSystem> fs(
      new FileSystem(std::move(stack), std::move(upper), std::move(init), std::move(options)));
  LFS_TRY(fs->open_root());
  return fs;
}

Status FileSystem::open_root() {
  if (upper_) {
    LFS_ASSIGN(UniqueFd work, sys::dup_fd(upper_->workdir().fd()));
    LFS_ASSIGN(UniqueFd index, sys::dup_fd(upper_->workdir().index_fd()));
    work_fd_ = share(std::move(work));
    index_fd_ = share(std::move(index));
  }
  if (init_) {
    LFS_ASSIGN(UniqueFd work, sys::dup_fd(init_->workdir().fd()));
    init_work_fd_ = share(std::move(work));
  }
  Node& root = table_.root();
  root.dir = std::make_unique<DirState>();
  root.type = DT_DIR;
  std::optional<struct statx> bottom;
  bool covered = false;
  for (LayerIndex i = 0; i < stack_.size() && !covered; ++i) {
    const Layer& layer = stack_.at(i);
    LFS_ASSIGN(const DirMarks marks, read_dir_marks({layer.root.get()}));
    if (layer.role == LayerRole::Upper) {
      root.dir->impure = marks.impure;
      root.dir->xattr_whiteouts = marks.opaque == Opaque::Whiteouts;
    } else {
      root.dir->sources.push_back({i, marks.opaque == Opaque::Whiteouts, LayerPath()});
    }
    covered = marks.opaque == Opaque::Yes;
    LFS_ASSIGN(bottom, sys::stat_at({layer.root.get()}));
  }
  // Attributes come from the upper; else from the topmost lower, since the init layer
  // only carries its entries.
  root.place = upper_ ? Place::Writable : Place::Lower;
  root.layer = upper_ ? *stack_.upper() : stack_.first_lower();
  root.ino = inos_.shown(sys::device_of(*bottom), bottom->stx_ino);
  return {};
}

Result<Node*> FileSystem::node_of(NodeId id) const {
  Node* node = table_.get(id);
  if (node == nullptr) {
    return Errno(ESTALE);
  }
  return node;
}

WritableLayer* FileSystem::writable(LayerIndex layer) {
  if (upper_ && upper_->index() == layer) {
    return upper_.get();
  }
  return init_ && init_->index() == layer ? init_.get() : nullptr;
}

bool FileSystem::is_removed(const Node& dir) const {
  return dir.parent == nullptr && dir.id != kRootId;
}

bool FileSystem::is_merged(const Node& dir) const {
  const bool above = dir.place == Place::Writable && upper_ && dir.layer == upper_->index();
  return dir.dir->sources.size() + (above ? 1U : 0U) > 1U;
}

Result<SharedFd> FileSystem::directory_fd(Node& dir, LayerIndex layer) {
  const DescriptorKey key = DescriptorKey::directory(dir.id, layer);
  if (SharedFd fd = descriptors_.find(key)) {
    return fd;
  }
  UniqueFd fd;
  if (dir.place == Place::Parked && dir.layer == layer) {
    const int work = writable(layer)->workdir().fd();
    LFS_ASSIGN(fd, sys::open_at({work, dir.extras().parked_name.c_str()}, O_PATH | O_DIRECTORY));
  } else if (dir.place == Place::Writable && dir.layer == layer) {
    // All directories above a writable one are in the same layer, under the names they
    // have now.
    std::vector<const Node*> chain;
    for (const Node* at = &dir; at->parent != nullptr; at = at->parent) {
      chain.push_back(at);
    }
    std::string path;
    for (auto it = chain.rbegin(); it != chain.rend(); ++it) {
      path.append(path.empty() ? "" : "/").append((*it)->name);
    }
    LFS_ASSIGN(fd, sys::open_beneath(stack_.at(layer).root.get(), path, O_PATH | O_DIRECTORY));
  } else {
    const DirSource* const source = dir.dir->source_in(layer);
    if (source == nullptr) {
      return Errno(EIO);
    }
    LFS_ASSIGN(fd, open_source(stack_, *source));
  }
  SharedFd shared = share(std::move(fd));
  descriptors_.put(key, shared);
  return shared;
}

Result<FileSystem::Located> FileSystem::locate(Node& node) {
  if (node.is_dir()) {
    LFS_ASSIGN(SharedFd fd, directory_fd(node, node.layer));
    return Located{std::move(fd), ""};
  }
  switch (node.place) {
    case Place::Parked:
      return Located{upper_ && node.layer == upper_->index() ? work_fd_ : init_work_fd_,
                     node.extra->parked_name.c_str()};
    case Place::Indexed:
      return Located{index_fd_, node.extra->index_name.c_str()};
    case Place::Lower:
      if (node.extra && node.extra->detached_dir) {
        LFS_ASSIGN(UniqueFd fd, open_source(stack_, *node.extra->detached_dir));
        return Located{share(std::move(fd)), node.extra->detached_name.c_str()};
      }
      break;
    case Place::Writable:
      break;
  }
  if (node.parent == nullptr) {
    return Errno(ESTALE);
  }
  LFS_ASSIGN(SharedFd fd, directory_fd(*node.parent, node.layer));
  return Located{std::move(fd), node.name.c_str()};
}

OverrideForm FileSystem::form_of(LayerIndex layer) {
  const WritableLayer* target = writable(layer);
  return target != nullptr && target->overrides() ? target->override_form()
                                                  : stack_.at(layer).override_form;
}

Result<FileSystem::Observed> FileSystem::observe(sys::At at, LayerIndex layer) {
  LFS_ASSIGN(const struct statx st, sys::stat_at(at));
  LFS_ASSIGN(const Identity identity, read_identity(at, st, form_of(layer)));
  return Observed{st, identity, 0};
}

Result<FileSystem::Observed> FileSystem::observe(Node& node) {
  LFS_ASSIGN(const Located located, locate(node));
  LFS_ASSIGN(Observed observed, observe(located.at(), node.layer));
  if (!node.is_dir() || !node.is_below()) {
    return observed;
  }
  const LayerIndex top = node.dir->sources.front().layer;
  if (top == node.layer) {
    return observed;
  }
  // The attributes are a lower's, which never change, and names come and go in the init
  // layer's directory.
  LFS_ASSIGN(const SharedFd carrier, directory_fd(node, top));
  LFS_ASSIGN(const struct statx st, sys::stat_at({carrier->get()}));
  const auto older = [](const struct statx_timestamp& a, const struct statx_timestamp& b) {
    return a.tv_sec != b.tv_sec ? a.tv_sec < b.tv_sec : a.tv_nsec < b.tv_nsec;
  };
  if (older(observed.st.stx_mtime, st.stx_mtime)) {
    observed.st.stx_mtime = st.stx_mtime;
  }
  if (older(observed.st.stx_ctime, st.stx_ctime)) {
    observed.st.stx_ctime = st.stx_ctime;
  }
  return observed;
}

Result<struct stat> FileSystem::attributes_of(Node& node, const Observed& observed) {
  const struct statx& st = observed.st;
  struct stat attr {};
  attr.st_ino = node.ino;
  attr.st_mode = observed.identity.mode;
  attr.st_nlink = st.stx_nlink;
  attr.st_uid = options_.uids.to_shown(observed.identity.uid);
  attr.st_gid = options_.gids.to_shown(observed.identity.gid);
  attr.st_rdev = observed.identity.rdev;
  attr.st_size = static_cast<off_t>(st.stx_size);
  attr.st_blksize = static_cast<blksize_t>(st.stx_blksize);
  attr.st_blocks = static_cast<blkcnt_t>(st.stx_blocks);
  attr.st_atim = {st.stx_atime.tv_sec, st.stx_atime.tv_nsec};
  attr.st_mtim = {st.stx_mtime.tv_sec, st.stx_mtime.tv_nsec};
  attr.st_ctim = {st.stx_ctime.tv_sec, st.stx_ctime.tv_nsec};
  if (node.is_dir()) {
    if (is_removed(node)) {
      attr.st_nlink = 0;
    } else if (options_.static_nlink) {
      attr.st_nlink = 1;
    } else if (st.stx_nlink > 1 && is_merged(node)) {
      // Filesystems that count subdirectories do; the merged directory has its own count.
      LFS_ASSIGN(const SharedListing listing, listing_of(node));
      attr.st_nlink = 2 + listing->visible.directory_count();
    }
  } else {
    std::int64_t links = static_cast<std::int64_t>(st.stx_nlink);
    if (node.place == Place::Parked) {
      --links;
    }
    if (node.extra) {
      links += node.extra->link_delta;
    }
    if (node.place == Place::Lower && node.extra && node.extra->detached_dir) {
      --links;
    }
    attr.st_nlink = static_cast<nlink_t>(std::max<std::int64_t>(links, 0));
  }
  return attr;
}

Result<struct stat> FileSystem::attributes_of(Node& node) {
  LFS_ASSIGN(const Observed observed, observe(node));
  return attributes_of(node, observed);
}

Result<SharedListing> FileSystem::listing_of(Node& dir) {
  if (!dir.is_dir()) {
    return Errno(ENOTDIR);
  }
  if (SharedListing known = listings_.find(dir.id)) {
    return known;
  }
  std::vector<MergeInput> inputs;
  std::vector<SharedFd> held;
  const auto add = [&](LayerIndex layer, bool xattr_whiteouts) -> Status {
    LFS_ASSIGN(SharedFd fd, directory_fd(dir, layer));
    inputs.push_back({layer, stack_.at(layer).role, xattr_whiteouts, fd->get()});
    held.push_back(std::move(fd));
    return {};
  };
  if (is_removed(dir)) {
    // A removed directory is empty, whatever whiteouts it still holds.
    return std::make_shared<MergedDirectory>();
  }
  if (dir.place == Place::Writable && upper_ && dir.layer == upper_->index()) {
    LFS_TRY(add(dir.layer, dir.dir->xattr_whiteouts));
  }
  for (const DirSource& source : dir.dir->sources) {
    LFS_TRY(add(source.layer, source.xattr_whiteouts));
  }
  LFS_ASSIGN(MergedDirectory merged, merge_directory(inputs));
  auto listing = std::make_shared<MergedDirectory>(std::move(merged));
  // Two readers may have built it at once: nothing changes a directory under the shared
  // tree lock, so both are the same.
  listings_.put(dir.id, listing);
  return listing;
}

void FileSystem::forget(NodeId node, std::uint64_t count) {
  std::vector<NodeTable::Forgotten> gone;
  table_.forget(node, count, gone);
  for (const NodeTable::Forgotten& left : gone) {
    descriptors_.drop(left.id);
    if (left.is_dir) {
      listings_.drop(left.id);
    }
    if (!left.parked_name.empty()) {
      const sys::At parked{writable(left.layer)->workdir().fd(), left.parked_name.c_str()};
      // Whiteouts may be left in a directory; mostly it is empty.
      if (!left.is_dir || !sys::unlink_at(parked, sys::UnlinkKind::Directory)) {
        ignore(sys::remove_nameless(parked), "work/ is swept at the next mount");
      }
    }
  }
}

Result<struct statvfs> FileSystem::statistics() {
  const LayerIndex layer = upper_ ? upper_->index() : stack_.first_lower();
  LFS_ASSIGN(struct statvfs st, sys::statvfs_fd(stack_.at(layer).root.get()));
  return st;
}

Status FileSystem::sync_all() {
  for (WritableLayer* layer : {upper_.get(), init_.get()}) {
    if (layer != nullptr && !layer->is_volatile()) {
      LFS_TRY(sys::syncfs_fd(layer->workdir().fd()));
    }
  }
  return {};
}

Status FileSystem::finish() {
  for (WritableLayer* layer : {upper_.get(), init_.get()}) {
    if (layer != nullptr) {
      LFS_TRY(layer->workdir().finish());
    }
  }
  return {};
}

}  // namespace layerfs
