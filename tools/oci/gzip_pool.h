// Deflating blocks of one gzip member in several threads. Each block is compressed on its
// own with the end of the one before as its dictionary, and ends on a byte (a sync flush);
// so the blocks joined are one deflate stream, the same whatever the number of threads.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "tools/oci/block_pool.h"
#include "tools/oci/channel.h"

namespace layerfs::oci {

class DeflateJob {
 public:
  DeflateJob(SharedBlock block, SharedBlock before)
      : block_(std::move(block)), before_(std::move(before)) {}

  struct Output {
    std::string deflated;
    std::uint32_t crc = 0;
    std::size_t size = 0;  // of the block
  };
  // Waits for it; once.
  Output take();

 private:
  friend class GzipPool;
  SharedBlock block_;
  SharedBlock before_;
  std::mutex mutex_;
  std::condition_variable done_;
  bool is_done_ = false;
  Output output_;
};

class GzipPool {
 public:
  GzipPool(unsigned threads, int level);
  ~GzipPool();
  GzipPool(const GzipPool&) = delete;
  GzipPool& operator=(const GzipPool&) = delete;

  void add(std::shared_ptr<DeflateJob> job) { jobs_.push(std::move(job)); }

 private:
  void work();

  int level_;
  Channel<std::shared_ptr<DeflateJob>> jobs_;
  std::vector<std::thread> threads_;
};

// What stands before and after the blocks (RFC 1952), without time, name or system.
std::string gzip_header();
std::string gzip_trailer(std::uint32_t crc, std::uint64_t size);
// CRC-32 of two pieces joined, the second of `size` bytes.
std::uint32_t join_crc(std::uint32_t first, std::uint32_t second, std::size_t size);

}  // namespace layerfs::oci
