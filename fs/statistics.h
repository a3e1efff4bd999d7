// Counts and latencies of requests by kind.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstdint>

namespace layerfs {

enum class Op : std::uint8_t {
  Lookup,
  Forget,
  Getattr,
  Setattr,
  Readlink,
  Mknod,
  Mkdir,
  Unlink,
  Rmdir,
  Symlink,
  Rename,
  Link,
  Open,
  Read,
  Write,
  Statfs,
  Release,
  Fsync,
  Setxattr,
  Getxattr,
  Listxattr,
  Removexattr,
  Flush,
  Opendir,
  Readdir,
  Readdirplus,
  Fsyncdir,
  Create,
  Tmpfile,
  Ioctl,
  Fallocate,
  Lseek,
  CopyFileRange,
  Statx,
  Count
};
const char* op_name(Op op);

// All counters are independent; a reader sees each as it is at that moment.
class Statistics {
 public:
  // Bucket i counts latencies below 2^i microseconds; the last, everything else.
  static constexpr std::size_t kBuckets = 24;
  struct Kind {
    std::atomic<std::uint64_t> count{0};
    std::atomic<std::uint64_t> errors{0};
    std::atomic<std::uint64_t> nanoseconds{0};
    std::array<std::atomic<std::uint64_t>, kBuckets> histogram{};
  };

  void record(Op op, std::chrono::nanoseconds took, bool failed) {
    Kind& kind = kinds_[static_cast<std::size_t>(op)];
    const auto ns = static_cast<std::uint64_t>(took.count());
    kind.count.fetch_add(1, std::memory_order_relaxed);
    kind.nanoseconds.fetch_add(ns, std::memory_order_relaxed);
    if (failed) {
      kind.errors.fetch_add(1, std::memory_order_relaxed);
    }
    const std::size_t bucket = static_cast<std::size_t>(std::bit_width(ns / 1000));
    kind.histogram[bucket < kBuckets ? bucket : kBuckets - 1].fetch_add(1,
                                                                        std::memory_order_relaxed);
  }
  const Kind& of(Op op) const { return kinds_[static_cast<std::size_t>(op)]; }

 private:
  std::array<Kind, static_cast<std::size_t>(Op::Count)> kinds_;
};

}  // namespace layerfs
