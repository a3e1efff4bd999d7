// FileSystem: which layers have an object, for people who ask (`layerfs which`).
#include "fs/file_system.h"
#include "layers/resolve.h"

namespace layerfs {
namespace {

// Topmost first.
std::vector<std::pair<LayerIndex, std::string>> directory_places(const Node& node) {
  std::vector<std::pair<LayerIndex, std::string>> places;
  if (node.place == Place::Writable) {
    places.emplace_back(node.layer, path_of(node));
  }
  for (const DirSource& source : node.dir->sources) {
    if (node.place != Place::Writable || source.layer != node.layer) {
      places.emplace_back(source.layer, source.path.text());
    }
  }
  return places;
}

}  // namespace

std::string FileSystem::host_path(LayerIndex layer, const std::string& below) const {
  const std::string& root = stack_.at(layer).path;
  return below.empty() ? root : root + "/" + below;
}

std::vector<FileSystem::Provider> FileSystem::directory_providers(const Node& node) const {
  std::vector<Provider> found;
  for (const auto& [layer, below] : directory_places(node)) {
    found.push_back({stack_.label(layer), host_path(layer, below),
                     found.empty() ? "directory" : "merged directory"});
  }
  return found;
}

Result<std::vector<FileSystem::Provider>> FileSystem::file_providers(const Node& node) const {
  std::vector<Provider> found;
  const auto add = [&](LayerIndex layer, const std::string& below) {
    found.push_back(
        {stack_.label(layer), host_path(layer, below), found.empty() ? "file" : "hidden file"});
  };
  if (node.place == Place::Writable) {
    add(node.layer, path_of(node));
  }
  if (node.parent == nullptr) {
    return found;
  }
  const auto& parents = node.parent->dir->sources;
  for (const DirSource& source : parents) {
    NameWalk walk(stack_, parents, node.name);
    walk.start_below(static_cast<LayerIndex>(source.layer - 1));
    LFS_ASSIGN(const auto here, walk.next());
    const bool is_shown = node.place == Place::Writable && source.layer == node.layer;
    if (here && here->layer == source.layer && !is_shown) {
      add(source.layer, here->path.text());
    }
  }
  return found;
}

Result<std::vector<FileSystem::Provider>> FileSystem::deleted_providers(Node& dir,
                                                                        const std::string& name) {
  std::vector<Provider> found;
  if (is_reserved_name(name)) {
    return Errno(ENOENT);
  }
  for (const auto& [layer, below] : directory_places(dir)) {
    LFS_ASSIGN(const SharedFd fd, directory_fd(dir, layer));
    const sys::At at{fd->get(), name.c_str()};
    const std::string marker = std::string(kWhiteoutPrefix) + name;
    LFS_ASSIGN(const auto st, sys::try_stat_at(at));
    LFS_ASSIGN(const auto marked, sys::try_stat_at({fd->get(), marker.c_str()}));
    bool hides = marked || (st && is_whiteout_device(*st));
    if (!hides && st && S_ISREG(st->stx_mode) && st->stx_size == 0) {
      LFS_ASSIGN(hides, is_whiteout_by_xattr(at));
    }
    if (!hides && !st) {
      continue;
    }
    if (!hides && found.empty()) {
      return Errno(ENOENT);  // made since it was looked up
    }
    const char* kind = hides ? "whiteout" : S_ISDIR(st->stx_mode) ? "directory" : "file";
    found.push_back({stack_.label(layer),
                     host_path(layer, below) + "/" + (hides && marked ? marker : name),
                     found.empty() ? kind : std::string("hidden ") + kind});
  }
  if (found.empty()) {
    return Errno(ENOENT);
  }
  return found;
}

Result<std::vector<FileSystem::Provider>> FileSystem::providers(
    const std::vector<std::string>& path) {
  // Found through lookup so that redirects, whiteouts and the index count as they do for
  // everybody; the lookups are taken back at the end.
  std::vector<NodeId> held;
  const auto resolve = [&]() -> Result<NodeId> {
    NodeId at = kRootId;
    for (const std::string& name : path) {
      LFS_ASSIGN(const auto entry, lookup(at, name));
      at = entry.id;
      held.push_back(at);
    }
    return at;
  };
  const auto list = [&]() -> Result<std::vector<Provider>> {
    const auto id = resolve();
    const SharedTree lock(tree_);
    if (!id && id.error().value() == ENOENT && held.size() + 1 == path.size()) {
      LFS_ASSIGN(Node * parent, node_of(held.empty() ? kRootId : held.back()));
      return parent->is_dir() ? deleted_providers(*parent, path.back()) : id.error();
    }
    if (!id) {
      return id.error();
    }
    LFS_ASSIGN(const Node* node, node_of(*id));
    return node->is_dir() ? directory_providers(*node) : file_providers(*node);
  };
  auto found = list();
  for (auto it = held.rbegin(); it != held.rend(); ++it) {
    forget(*it, 1);
  }
  return found;
}

}  // namespace layerfs
