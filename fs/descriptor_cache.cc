#include "fs/descriptor_cache.h"

#include <vector>

namespace layerfs {

SharedFd DescriptorCache::find(const DescriptorKey& key) {
  const std::lock_guard lock(mutex_);
  const auto it = slots_.find(key);
  if (it == slots_.end()) {
    return nullptr;
  }
  recent_.splice(recent_.begin(), recent_, it->second);
  return it->second->fd;
}

SharedFd DescriptorCache::take_locked(const DescriptorKey& key) {
  const auto it = slots_.find(key);
  if (it == slots_.end()) {
    return nullptr;
  }
  SharedFd fd = std::move(it->second->fd);
  recent_.erase(it->second);
  slots_.erase(it);
  const auto count = per_node_.find(key.node);
  if (--count->second == 0) {
    per_node_.erase(count);
  }
  return fd;
}

void DescriptorCache::put(const DescriptorKey& key, SharedFd fd) {
  SharedFd replaced;
  SharedFd evicted;
  const std::lock_guard lock(mutex_);
  replaced = take_locked(key);
  recent_.push_front({key, std::move(fd)});
  slots_.emplace(key, recent_.begin());
  ++per_node_[key.node];
  if (slots_.size() > limit_) {
    evicted = take_locked(DescriptorKey(recent_.back().key));
  }
}

void DescriptorCache::drop_data(NodeId node) {
  SharedFd reading;
  SharedFd writing;
  const std::lock_guard lock(mutex_);
  reading = take_locked(DescriptorKey::reading(node));
  writing = take_locked(DescriptorKey::writing(node));
}

void DescriptorCache::drop(NodeId node) {
  std::vector<SharedFd> dropped;
  const std::lock_guard lock(mutex_);
  if (!per_node_.contains(node)) {
    return;
  }
  for (auto it = recent_.begin(); it != recent_.end();) {
    const DescriptorKey key = it->key;
    ++it;
    if (key.node == node) {
      dropped.push_back(take_locked(key));
    }
  }
}

std::size_t DescriptorCache::size() const {
  const std::lock_guard lock(mutex_);
  return slots_.size();
}

}  // namespace layerfs
