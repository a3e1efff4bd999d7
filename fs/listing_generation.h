// Which state of a directory a reader's position belongs to. The kernel keeps one chain of
// entries a directory, to which any reader at its end adds, and asks only readers at the
// start whether it is up to date (Linux 6.18, fs/fuse/readdir.c). Positions of different
// states must differ, or a reader goes on in a chain that began before it did, and misses
// what was made in between.
#pragma once

#include <atomic>
#include <cstdint>

#include "layers/directory_listing.h"

namespace layerfs {

using Generation = std::uint16_t;

// A position as the kernel has it: a positive off_t, 0 for the start.
struct ListingPosition {
  std::uint64_t cookie;  // DirectoryListing's
  Generation generation;

  static ListingPosition of(std::uint64_t offset) {
    return {offset & DirectoryListing::kLastCookie,
            static_cast<Generation>(offset >> DirectoryListing::kCookieBits)};
  }
  std::uint64_t offset() const {
    return std::uint64_t{generation} << DirectoryListing::kCookieBits | cookie;
  }
};
static_assert(DirectoryListing::kCookieBits + 8 * sizeof(Generation) == 63);

// Guarded by the tree lock: shared to hand out, exclusive to change.
class ListingGeneration {
 public:
  Generation hand_out() {
    handed_out_.store(true, std::memory_order_relaxed);
    return value_;
  }
  bool is(Generation generation) const { return value_ == generation; }
  // What nobody has seen needs no number of its own.
  void change() {
    if (handed_out_.exchange(false, std::memory_order_relaxed)) {
      ++value_;
    }
  }

 private:
  Generation value_ = 0;
  std::atomic<bool> handed_out_{false};
};

}  // namespace layerfs
