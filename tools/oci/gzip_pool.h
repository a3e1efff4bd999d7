// Compressing blocks in several threads. Each block becomes a gzip member of its own, and a
// gzip file may have several (RFC 1952), the same whatever the number of threads.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tools/oci/block_pool.h"
#include "tools/oci/channel.h"

namespace layerfs::oci {

class GzipJob {
 public:
  explicit GzipJob(SharedBlock block) : block_(std::move(block)) {}

  // The member: waits for it; once.
  std::string take();

 private:
  friend class GzipPool;
  SharedBlock block_;
  std::mutex mutex_;
  std::condition_variable done_;
  bool is_done_ = false;
  std::string output_;
};

class GzipPool {
 public:
  GzipPool(unsigned threads, int level);
  ~GzipPool();
  GzipPool(const GzipPool&) = delete;
  GzipPool& operator=(const GzipPool&) = delete;

  void add(std::shared_ptr<GzipJob> job) { jobs_.push(std::move(job)); }

 private:
  void work();

  int level_;
  Channel<std::shared_ptr<GzipJob>> jobs_;
  std::vector<std::thread> threads_;
};

}  // namespace layerfs::oci
