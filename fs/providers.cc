// FileSystem: which layers have an object, for people who ask (`layerfs which`).
#include "fs/file_system.h"
#include "layers/resolve.h"

namespace layerfs {
namespace {

// The path below the mount, without a leading slash.
std::string path_of(const Node& node) {
  std::string text;
  for (const Node* at = &node; at->parent != nullptr; at = at->parent) {
    text = text.empty() ? at->name : at->name + "/" + text;
  }
  return text;
}

}  // namespace

std::string FileSystem::host_path(LayerIndex layer, const std::string& below) const {
  const std::string& root = stack_.at(layer).path;
  return below.empty() ? root : root + "/" + below;
}

std::vector<FileSystem::Provider> FileSystem::directory_providers(const Node& node) const {
  std::vector<Provider> found;
  const auto add = [&](LayerIndex layer, const std::string& below) {
    found.push_back({stack_.label(layer), host_path(layer, below),
                     found.empty() ? "directory" : "merged directory"});
  };
  if (node.place == Place::Writable) {
    add(node.layer, path_of(node));
  }
  for (const DirSource& source : node.dir->sources) {
    if (node.place != Place::Writable || source.layer != node.layer) {
      add(source.layer, source.path.text());
    }
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
    LFS_ASSIGN(const NodeId id, resolve());
    const SharedTree lock(tree_);
    LFS_ASSIGN(const Node* node, node_of(id));
    return node->is_dir() ? directory_providers(*node) : file_providers(*node);
  };
  auto found = list();
  for (auto it = held.rbegin(); it != held.rend(); ++it) {
    forget(*it, 1);
  }
  return found;
}

}  // namespace layerfs
