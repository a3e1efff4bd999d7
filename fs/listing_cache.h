// Merged directories, kept by node, least recently used first to go.
#pragma once

#include <list>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "fs/node.h"
#include "layers/directory_merge.h"

namespace layerfs {

using SharedListing = std::shared_ptr<MergedDirectory>;

// Thread-safe; a leaf lock. The listings themselves are read under the tree lock and
// changed under the exclusive one. Bounded by the number of entries; the most recent
// listing is kept whatever its size, so that work in one huge directory goes on.
class ListingCache {
 public:
  explicit ListingCache(std::size_t entry_limit) : limit_(entry_limit) {}

  SharedListing find(NodeId node);
  void put(NodeId node, SharedListing listing);
  void drop(NodeId node);

  struct Usage {
    std::size_t listings;
    std::size_t entries;
  };
  Usage usage() const;

 private:
  struct Slot {
    NodeId node;
    SharedListing listing;
    std::size_t entries;  // when put: what it counts for
  };
  void drop_locked(NodeId node, std::list<Slot>& dropped);

  const std::size_t limit_;
  mutable std::mutex mutex_;
  std::list<Slot> recent_;
  std::unordered_map<NodeId, std::list<Slot>::iterator> slots_;
  std::size_t entries_ = 0;
};

}  // namespace layerfs
