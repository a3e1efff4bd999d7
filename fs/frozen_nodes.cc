// FileSystem: what holding changes back, and bounding memory, must know of nodes.
#include <dirent.h>

#include "fs/file_system.h"

namespace layerfs {

std::string path_of(const Node& node) {
  std::string text;
  for (const Node* at = &node; at->parent != nullptr; at = at->parent) {
    text = text.empty() ? at->name : at->name + "/" + text;
  }
  return text;
}

bool FileSystem::is_regular(NodeId id) {
  const SharedTree lock(tree_);
  const auto node = node_of(id);
  return node && (*node)->type == DT_REG;
}

std::vector<NodeId> FileSystem::regular_nodes() {
  const SharedTree lock(tree_);
  std::vector<NodeId> out;
  table_.for_each([&](const Node& node) {
    if (node.type == DT_REG) {
      out.push_back(node.id);
    }
  });
  return out;
}

std::vector<NodeId> FileSystem::known_nodes() const {
  std::vector<NodeId> out;
  table_.for_each([&](const Node& node) {
    if (node.id != kRootId) {
      out.push_back(node.id);
    }
  });
  return out;
}

NodeId FileSystem::known_child(NodeId parent, std::string_view name) {
  const SharedTree lock(tree_);
  const auto dir = node_of(parent);
  const Node* child = dir ? table_.find(**dir, name) : nullptr;
  return child == nullptr ? 0 : child->id;
}

std::optional<std::string> FileSystem::path_in_upper(NodeId id) {
  const SharedTree lock(tree_);
  const auto node = node_of(id);
  if (!node || (*node)->parent == nullptr || upper_ == nullptr ||
      (*node)->layer != upper_->index()) {
    return std::nullopt;
  }
  return path_of(**node);
}

}  // namespace layerfs
