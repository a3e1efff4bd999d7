// Which of the threads that serve a connection wait for its next request.
//
// The kernel wakes the thread that has waited longest. With all of them waiting, each request
// of a single client wakes another thread, on a CPU that has to be woken too or is busy with
// something else, and finds its caches cold. So as few as keep up wait, at first one, which
// serves what it receives itself; the others are parked. Nobody may wait for long behind a
// request that takes its time, nor a request for one that is behind it (INTERRUPT, or what
// the kernel asks while it holds up an answer): a watcher looks once a millisecond, and where
// nobody waits and nothing was received since, unparks one more. Most connections never need
// more than two, so the others are started when they are needed.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>

namespace layerfs {

class ReaderPool {
 public:
  // What is known of a request when it has been received.
  struct Arrival {
    std::chrono::nanoseconds waited;
    // Whose request it is: those of one client follow each other, those of several queue.
    // 0: the kernel's own (RELEASE, FORGET, the writeback cache), for which nobody waits.
    std::uint32_t client;
    // It will wait for a disk.
    bool slow;
  };

  // Starts a thread that calls begin_wait() of the pool. False: it could not, and is asked again.
  using StartThread = std::function<bool(ReaderPool&)>;

  // `threads`, at least 1, call begin_wait(). Throws std::system_error if the watcher cannot be
  // started.
  explicit ReaderPool(unsigned threads) : ReaderPool({threads, threads}, threads, nullptr) {}
  struct Limits {
    unsigned threads;
    // Of those, how many wait for requests that queue. More than the clients leave processors
    // for only take turns with them.
    unsigned waiting;
  };
  // `have` of them, at least 1, without being asked; the others are started by the watcher,
  // whose filesystem attributes and credentials nobody changes, so that they inherit none of
  // a request's.
  ReaderPool(Limits limits, unsigned have, StartThread start);
  ~ReaderPool();
  ReaderPool(const ReaderPool&) = delete;
  ReaderPool& operator=(const ReaderPool&) = delete;

  // Parks the calling thread until it is to wait for a request. False: it is to end.
  bool begin_wait();
  // The calling thread has a request, and serves it before the next begin_wait().
  void end_wait(const Arrival& arrival);
  // The connection ended: no begin_wait() succeeds any more.
  void close();
  // close(), and no thread is started any more once this returns.
  void end();

  // One more thread may be needed soon.
  void expect_more();

  // Threads that wait for a request or are about to.
  unsigned waiting() const { return waiting_.load(std::memory_order_relaxed); }

 private:
  void unpark_one();
  void ask_for_thread();  // with the mutex
  void adapt(const Arrival& arrival);
  void watch();
  void start_missing(std::unique_lock<std::mutex>& lock);

  const unsigned threads_;
  const unsigned most_wanted_;
  const StartThread start_;
  std::atomic<unsigned> waiting_{0};
  // How many should wait, between 1 and most_wanted_. Approximate, as are the two counts that
  // change it: a lost update costs time, not a request.
  std::atomic<unsigned> wanted_{1};
  std::atomic<unsigned> sampled_{0};
  std::atomic<unsigned> queued_{0};
  std::atomic<std::uint32_t> last_client_{0};

  std::atomic<std::uint64_t> received_{0};
  std::atomic<bool> watcher_sleeps_{false};

  std::mutex mutex_;
  std::condition_variable unparked_;
  std::condition_variable watcher_;
  unsigned parked_ = 0;  // but for those already called
  unsigned called_ = 0;
  unsigned have_;
  bool missing_ = false;  // the watcher is to start a thread
  std::atomic<bool> closed_{false};
  std::thread watching_;
};

}  // namespace layerfs
