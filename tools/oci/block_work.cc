#include "tools/oci/block_work.h"

#include <algorithm>

namespace layerfs::oci {
namespace {

// Enough to outlast a thread's wait for a processor.
constexpr std::size_t kMostWaiting = 8;
// Who waits for room waits for so much, and not for each block again.
constexpr std::size_t kRoom = kMostWaiting / 2;

}  // namespace

BlockWork::BlockWork(Job first, Job second) {
  lanes_[0].job = std::move(first);
  lanes_[1].job = std::move(second);
  thread_ = std::thread([this] { work(); });
}

BlockWork::~BlockWork() {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    closed_ = true;
    changed_.notify_all();
  }
  if (thread_.joinable()) {
    thread_.join();
  }
}

BlockWork::Lane* BlockWork::most_behind() {
  Lane* found = nullptr;
  for (Lane& lane : lanes_) {
    const std::size_t least = found == nullptr ? 0 : found->waiting.size();
    if (!stopped_ && !lane.busy && lane.waiting.size() > least) {
      found = &lane;
    }
  }
  return found;
}

std::size_t BlockWork::longest() const {
  return std::max(lanes_[0].waiting.size(), lanes_[1].waiting.size());
}

void BlockWork::step(std::unique_lock<std::mutex>& lock) {
  Lane* lane = most_behind();
  if (lane == nullptr) {
    changed_.wait(lock);
    return;
  }
  SharedBlock block = std::move(lane->waiting.front());
  lane->waiting.pop_front();
  lane->busy = true;
  lock.unlock();
  const bool wanted = lane->job(block);
  block.reset();
  lock.lock();
  lane->busy = false;
  stopped_ = stopped_ || !wanted;
  changed_.notify_all();
}

void BlockWork::work() {
  std::unique_lock lock(mutex_);
  while (!stopped_ && !(closed_ && longest() == 0)) {
    step(lock);
  }
}

bool BlockWork::push(const SharedBlock& block) {
  std::unique_lock lock(mutex_);
  for (Lane& lane : lanes_) {
    lane.waiting.push_back(block);
  }
  changed_.notify_all();
  if (longest() > kMostWaiting) {
    while (!stopped_ && longest() > kRoom) {
      step(lock);
    }
  }
  return !stopped_;
}

bool BlockWork::finish() {
  std::unique_lock lock(mutex_);
  closed_ = true;
  changed_.notify_all();
  while (!stopped_ && (longest() > 0 || lanes_[0].busy || lanes_[1].busy)) {
    step(lock);
  }
  const bool wanted = !stopped_;
  lock.unlock();
  thread_.join();
  return wanted;
}

}  // namespace layerfs::oci
