#include "fs/reader_pool.h"

#include <algorithm>

namespace layerfs {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

constexpr milliseconds kLook{1};
// The watcher of a connection that was quiet for so long sleeps until the next request.
constexpr unsigned kQuietLooks = 16;

// A request that was there so soon had been queued while its thread was busy.
constexpr microseconds kQueued{3};
// Of so many requests, how many of them queued make one more thread wait, or one less.
constexpr unsigned kSample = 64;
constexpr unsigned kManyQueued = 32;
constexpr unsigned kFewQueued = 8;

}  // namespace

ReaderPool::ReaderPool(Limits limits, unsigned have, StartThread start)
    : threads_(limits.threads),
      most_wanted_(std::min(limits.waiting, limits.threads)),
      start_(std::move(start)),
      have_(have) {
  if (threads_ > 1) {
    watching_ = std::thread([this] { watch(); });
  }
}

ReaderPool::~ReaderPool() { end(); }

void ReaderPool::end() {
  close();
  if (watching_.joinable()) {
    watching_.join();
  }
}

bool ReaderPool::begin_wait() {
  unsigned waiting = waiting_.load();
  while (waiting < wanted_.load(std::memory_order_relaxed)) {
    if (waiting_.compare_exchange_weak(waiting, waiting + 1)) {
      return !closed_.load();
    }
  }
  std::unique_lock lock(mutex_);
  ++parked_;
  unparked_.wait(lock, [this] { return called_ > 0 || closed_.load(); });
  if (called_ > 0) {
    --called_;  // who called has counted this thread among the waiting
  }
  return !closed_.load();
}

void ReaderPool::end_wait(const Arrival& arrival) {
  waiting_.fetch_sub(1);
  received_.fetch_add(1);
  // In this order, and the watcher in the opposite one: of a request that comes while it
  // falls asleep, one of the two knows.
  if (watcher_sleeps_.load() && watcher_sleeps_.exchange(false)) {
    const std::lock_guard lock(mutex_);
    watcher_.notify_one();
  }
  if (threads_ > 1) {
    adapt(arrival);
  }
}

void ReaderPool::adapt(const Arrival& arrival) {
  if (arrival.slow && waiting_.load() == 0) {
    unpark_one();
  }
  constexpr auto kRelaxed = std::memory_order_relaxed;
  if (arrival.client == 0) {
    return;
  }
  const bool other_client = last_client_.exchange(arrival.client, kRelaxed) != arrival.client;
  if (arrival.waited < kQueued && other_client) {
    queued_.fetch_add(1, kRelaxed);
  }
  if (sampled_.fetch_add(1, kRelaxed) + 1 < kSample) {
    return;
  }
  sampled_.store(0, kRelaxed);
  const unsigned queued = queued_.exchange(0, kRelaxed);
  const unsigned wanted = wanted_.load(kRelaxed);
  if (queued >= kManyQueued && wanted < most_wanted_) {
    wanted_.store(wanted + 1, kRelaxed);
    unpark_one();
  } else if (queued <= kFewQueued && wanted > 1) {
    wanted_.store(wanted - 1, kRelaxed);
  }
}

void ReaderPool::unpark_one() {
  const std::lock_guard lock(mutex_);
  if (parked_ == 0) {
    // All are serving: the first to be done will wait, or the one that is started.
    ask_for_thread();
    return;
  }
  --parked_;
  ++called_;
  waiting_.fetch_add(1);
  unparked_.notify_one();
}

void ReaderPool::ask_for_thread() {
  missing_ = have_ < threads_;
  if (missing_) {
    watcher_.notify_one();
  }
}

void ReaderPool::expect_more() {
  const std::lock_guard lock(mutex_);
  ask_for_thread();
}

void ReaderPool::start_missing(std::unique_lock<std::mutex>& lock) {
  missing_ = false;
  ++have_;
  lock.unlock();
  const bool started = start_(*this);
  lock.lock();
  have_ -= started ? 0 : 1;
}

void ReaderPool::close() {
  const std::lock_guard lock(mutex_);
  closed_.store(true);
  unparked_.notify_all();
  watcher_.notify_all();
}

void ReaderPool::watch() {
  std::uint64_t seen = 0;
  unsigned quiet = 0;
  std::unique_lock lock(mutex_);
  while (!closed_.load()) {
    if (missing_) {
      start_missing(lock);
      continue;
    }
    watcher_.wait_for(lock, kLook);
    const std::uint64_t received = received_.load();
    if (received != seen) {
      seen = received;
      quiet = 0;
    } else if (waiting_.load() == 0) {
      lock.unlock();
      unpark_one();
      lock.lock();
    } else if (++quiet >= kQuietLooks) {
      watcher_sleeps_.store(true);
      if (received_.load() == seen) {
        watcher_.wait(lock,
                      [this] { return closed_.load() || missing_ || !watcher_sleeps_.load(); });
      }
      watcher_sleeps_.store(false);
      quiet = 0;
    }
  }
}

}  // namespace layerfs
