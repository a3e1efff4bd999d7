// Descriptors of layer objects, least recently used first to go. A node owns none, so
// the number of open files is bounded whatever the size of the tree.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <mutex>
#include <unordered_map>

#include "fs/node.h"
#include "layers/sys/unique_fd.h"

namespace layerfs {

// What a descriptor of a node is for. A directory has one for each layer.
struct DescriptorKey {
  NodeId node;
  std::uint32_t use;
  friend bool operator==(const DescriptorKey&, const DescriptorKey&) = default;

  static DescriptorKey directory(NodeId node, LayerIndex layer) { return {node, layer}; }
  static DescriptorKey reading(NodeId node) { return {node, 0x10000}; }
  static DescriptorKey writing(NodeId node) { return {node, 0x10001}; }
};

// Thread-safe; a leaf lock, but closing a descriptor happens outside it.
class DescriptorCache {
 public:
  explicit DescriptorCache(std::size_t limit) : limit_(limit) {}

  SharedFd find(const DescriptorKey& key);
  // Keeps `fd` for the key; an earlier one is let go.
  void put(const DescriptorKey& key, SharedFd fd);
  // Lets go of every data descriptor of the node: they are of an object it is no longer.
  void drop_data(NodeId node);
  // Lets go of all of the node's descriptors.
  void drop(NodeId node);

  std::size_t size() const;
  std::size_t limit() const { return limit_; }

 private:
  struct Hash {
    std::size_t operator()(const DescriptorKey& key) const {
      return std::hash<std::uint64_t>()(key.node * 0x9e3779b97f4a7c15ULL + key.use);
    }
  };
  struct Slot {
    DescriptorKey key;
    SharedFd fd;
  };
  SharedFd take_locked(const DescriptorKey& key);

  const std::size_t limit_;
  mutable std::mutex mutex_;
  std::list<Slot> recent_;  // most recent first
  std::unordered_map<DescriptorKey, std::list<Slot>::iterator, Hash> slots_;
  // How many slots a node has, so that forgetting one that has none costs a look-up.
  std::unordered_map<NodeId, unsigned> per_node_;
};

}  // namespace layerfs
