#include "tools/oci/gzip_pool.h"

#include <libdeflate.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace layerfs::oci {
namespace {

struct FreeCompressor {
  void operator()(libdeflate_compressor* one) const { libdeflate_free_compressor(one); }
};

}  // namespace

std::string GzipJob::take() {
  std::unique_lock lock(mutex_);
  done_.wait(lock, [&] { return is_done_; });
  return std::move(output_);
}

GzipPool::GzipPool(unsigned threads, int level) : level_(level), jobs_(threads + 2) {
  for (unsigned i = 0; i < threads; ++i) {
    threads_.emplace_back([this] { work(); });
  }
}

GzipPool::~GzipPool() {
  // What was added is still done: somebody may wait for it.
  jobs_.close();
  for (std::thread& thread : threads_) {
    thread.join();
  }
}

void GzipPool::work() {
  const std::unique_ptr<libdeflate_compressor, FreeCompressor> compressor(
      libdeflate_alloc_compressor(level_));
  if (!compressor) {
    std::fputs("layerfs: libdeflate: out of memory\n", stderr);
    std::abort();
  }
  while (const auto next = jobs_.pop()) {
    GzipJob& job = **next;
    const std::string_view bytes = job.block_->bytes();
    std::string output;
    output.resize(libdeflate_gzip_compress_bound(compressor.get(), bytes.size()));
    // It fits, by the bound.
    output.resize(libdeflate_gzip_compress(compressor.get(), bytes.data(), bytes.size(),
                                           output.data(), output.size()));
    const std::lock_guard lock(job.mutex_);
    job.block_.reset();
    job.output_ = std::move(output);
    job.is_done_ = true;
    job.done_.notify_all();
  }
}

}  // namespace layerfs::oci
