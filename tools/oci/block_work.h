// What is to be done with each block of a stream, by two threads that keep each other busy.
#pragma once

#include <array>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "tools/oci/block_pool.h"

namespace layerfs::oci {

// Two jobs that do not depend on each other, each done with all blocks in their order. A
// thread does them, and so does who brings the blocks whenever he would have to wait: so
// neither idles, whichever of reading, hashing and writing is slow on this machine.
class BlockWork {
 public:
  // false: this job wants no more blocks.
  using Job = std::function<bool(const SharedBlock&)>;

  BlockWork(Job first, Job second);
  ~BlockWork();
  BlockWork(const BlockWork&) = delete;
  BlockWork& operator=(const BlockWork&) = delete;

  // Returns soon, if need be after some of the work. false: a job wants no more.
  bool push(const SharedBlock& block);
  // After the last: returns when all is done. false as above.
  bool finish();

 private:
  struct Lane {
    Job job;
    std::deque<SharedBlock> waiting;
    bool busy = false;
  };

  Lane* most_behind();
  std::size_t longest() const;
  // Does one job, or waits until something changes.
  void step(std::unique_lock<std::mutex>& lock);
  void work();

  std::array<Lane, 2> lanes_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopped_ = false;  // a job wants no more
  bool closed_ = false;
  std::thread thread_;
};

}  // namespace layerfs::oci
