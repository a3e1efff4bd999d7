#include "fs/listing_cache.h"

namespace layerfs {
namespace {

// What an empty directory counts for, so that a million of them are bounded too.
constexpr std::size_t kListingOverhead = 8;

}  // namespace

SharedListing ListingCache::find(NodeId node) {
  const std::lock_guard lock(mutex_);
  const auto it = slots_.find(node);
  if (it == slots_.end()) {
    return nullptr;
  }
  recent_.splice(recent_.begin(), recent_, it->second);
  return it->second->listing;
}

void ListingCache::drop_locked(NodeId node, std::list<Slot>& dropped) {
  const auto it = slots_.find(node);
  if (it == slots_.end()) {
    return;
  }
  entries_ -= it->second->entries;
  dropped.splice(dropped.begin(), recent_, it->second);
  slots_.erase(it);
}

void ListingCache::put(NodeId node, SharedListing listing) {
  std::list<Slot> dropped;  // destroyed after the lock is released
  const std::lock_guard lock(mutex_);
  drop_locked(node, dropped);
  const std::size_t entries = listing->visible.size() + kListingOverhead;
  recent_.push_front({node, std::move(listing), entries});
  slots_.emplace(node, recent_.begin());
  entries_ += entries;
  while (entries_ > limit_ && recent_.size() > 1) {
    drop_locked(recent_.back().node, dropped);
  }
}

void ListingCache::drop(NodeId node) {
  std::list<Slot> dropped;
  const std::lock_guard lock(mutex_);
  drop_locked(node, dropped);
}

ListingCache::Usage ListingCache::usage() const {
  const std::lock_guard lock(mutex_);
  return {recent_.size(), entries_ - recent_.size() * kListingOverhead};
}

}  // namespace layerfs
