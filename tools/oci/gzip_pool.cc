#include "tools/oci/gzip_pool.h"

#include <zlib.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

namespace layerfs::oci {
namespace {

constexpr int kRawDeflate = -15;  // no header or trailer, the largest window
constexpr int kMemLevel = 8;      // zlib's usual
constexpr std::size_t kWindowBytes = 32 * 1024;

// These fail only for want of memory or for arguments that are constants here.
void require(int result) {
  if (result != Z_OK) {
    std::fputs("layerfs: zlib: out of memory\n", stderr);
    std::abort();
  }
}

Bytef* to_zlib(const char* bytes) {
  // zlib declares what it only reads without const.
  return reinterpret_cast<Bytef*>(const_cast<char*>(bytes));
}

}  // namespace

DeflateJob::Output DeflateJob::take() {
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
  z_stream stream{};
  require(deflateInit2(&stream, level_, Z_DEFLATED, kRawDeflate, kMemLevel, Z_DEFAULT_STRATEGY));
  while (const auto next = jobs_.pop()) {
    DeflateJob& job = **next;
    const std::string_view bytes = job.block_->bytes();
    require(deflateReset(&stream));
    if (job.before_) {
      const std::string_view before = job.before_->bytes();
      const std::size_t size = std::min(before.size(), kWindowBytes);
      require(deflateSetDictionary(&stream, to_zlib(before.data() + before.size() - size),
                                   static_cast<uInt>(size)));
    }
    DeflateJob::Output output;
    // The bound is for a finished stream; a flush takes at most 5 bytes more.
    output.deflated.resize(deflateBound(&stream, bytes.size()) + 16);
    stream.next_in = to_zlib(bytes.data());
    stream.avail_in = static_cast<uInt>(bytes.size());
    stream.next_out = to_zlib(output.deflated.data());
    stream.avail_out = static_cast<uInt>(output.deflated.size());
    require(deflate(&stream, Z_SYNC_FLUSH));
    if (stream.avail_in != 0 || stream.avail_out == 0) {
      require(Z_BUF_ERROR);
    }
    output.deflated.resize(output.deflated.size() - stream.avail_out);
    output.crc = static_cast<std::uint32_t>(
        crc32(0, to_zlib(bytes.data()), static_cast<uInt>(bytes.size())));
    output.size = bytes.size();
    const std::lock_guard lock(job.mutex_);
    job.block_.reset();
    job.before_.reset();
    job.output_ = std::move(output);
    job.is_done_ = true;
    job.done_.notify_all();
  }
  deflateEnd(&stream);
}

std::string gzip_header() {
  // Magic, deflate, no flags, time 0, no extra flags, system unknown.
  return {"\x1f\x8b\x08\0\0\0\0\0\0\xff", 10};
}

std::string gzip_trailer(std::uint32_t crc, std::uint64_t size) {
  std::string out("\x03\0", 2);  // a last block without data
  for (const std::uint32_t word : {crc, static_cast<std::uint32_t>(size)}) {
    for (unsigned shift = 0; shift < 32; shift += 8) {
      out += static_cast<char>(word >> shift);
    }
  }
  return out;
}

std::uint32_t join_crc(std::uint32_t first, std::uint32_t second, std::size_t size) {
  return static_cast<std::uint32_t>(crc32_combine(first, second, static_cast<z_off_t>(size)));
}

}  // namespace layerfs::oci
