// A bounded queue between two threads.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <utility>

namespace layerfs::oci {

template <class T>
class Channel {
 public:
  explicit Channel(std::size_t capacity) : capacity_(capacity) {}

  // Waits for room. false: the channel is closed, and the item is dropped.
  bool push(T item) {
    {
      std::unique_lock lock(mutex_);
      has_room_.wait(lock, [&] { return closed_ || items_.size() < capacity_; });
      if (closed_) {
        return false;
      }
      items_.push_back(std::move(item));
    }
    // Not under the lock, on which who wakes up would wait at once.
    has_items_.notify_one();
    return true;
  }
  // Waits for an item. nullopt: the channel is closed and empty.
  std::optional<T> pop() {
    std::optional<T> item;
    {
      std::unique_lock lock(mutex_);
      has_items_.wait(lock, [&] { return closed_ || !items_.empty(); });
      if (items_.empty()) {
        return item;
      }
      item = std::move(items_.front());
      items_.pop_front();
    }
    has_room_.notify_one();
    return item;
  }
  // No more items; those in it can still be taken.
  void close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    notify_everybody();
  }
  // As close(), and drops what is in it.
  void abandon() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    items_.clear();
    notify_everybody();
  }

 private:
  void notify_everybody() {
    has_room_.notify_all();
    has_items_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable has_room_;
  std::condition_variable has_items_;
  std::deque<T> items_;
  std::size_t capacity_;
  bool closed_ = false;
};

}  // namespace layerfs::oci
