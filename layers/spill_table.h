// A hash table of plain values, in memory while it is small, else in a temporary file.
#pragma once

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <optional>
#include <type_traits>
#include <vector>

#include "layers/sys/temporary_file.h"

namespace layerfs {

// Neither {0, 0} nor {0, 1}.
struct SpillKey {
  std::uint64_t high;
  std::uint64_t low;
  friend bool operator==(const SpillKey&, const SpillKey&) = default;
};

template <class Value>
class SpillTable {
  static_assert(std::is_trivially_copyable_v<Value>);

 public:
  // `most_memory`: in bytes; above, the table is in a file.
  explicit SpillTable(std::size_t most_memory = std::size_t{8} << 20U)
      : most_memory_(most_memory) {}

  std::uint64_t size() const { return live_; }

  // nullopt: there is none.
  Result<std::optional<Value>, Failure> find(const SpillKey& key) const {
    if (slots_ == 0) {
      return std::optional<Value>();
    }
    LFS_ASSIGN(const Place place, locate(key));
    return place.found ? std::optional<Value>(place.value) : std::nullopt;
  }

  // Adds it, or replaces the value it has.
  Result<void, Failure> set(const SpillKey& key, const Value& value) {
    if (used_ * 4 >= slots_ * 3) {
      LFS_TRY(grow());
    }
    LFS_ASSIGN(const Place place, locate(key));
    if (!place.found) {
      ++live_;
      used_ += place.is_fresh ? 1 : 0;
    }
    return write(place.slot, {key, value});
  }

  Result<void, Failure> erase(const SpillKey& key) {
    if (slots_ == 0) {
      return {};
    }
    LFS_ASSIGN(const Place place, locate(key));
    if (!place.found) {
      return {};
    }
    if (--live_ == 0) {
      return clear();
    }
    return write(place.slot, {kErased, {}});
  }

  // Calls f(key, value) for each, in no order, until it fails. f must not change the table.
  template <class F>
  Result<void, Failure> for_each(F f) const {
    std::array<Slot, kPiece> piece;
    for (std::uint64_t at = 0; at < slots_; at += kPiece) {
      LFS_TRY(read(at, piece));
      for (const Slot& slot : piece) {
        if (slot.key != kNone && slot.key != kErased) {
          LFS_TRY(f(slot.key, slot.value));
        }
      }
    }
    return {};
  }

 private:
  struct Slot {
    SpillKey key;
    Value value;
  };
  struct Place {
    std::uint64_t slot;
    bool found;
    bool is_fresh;  // no erased one
    Value value;
  };
  static constexpr SpillKey kNone{0, 0};
  static constexpr SpillKey kErased{0, 1};
  static constexpr std::size_t kPiece = 16;  // slots that are read at a time
  static constexpr std::uint64_t kFirstSlots = 64;

  Result<Place, Failure> locate(const SpillKey& key) const {
    std::optional<std::uint64_t> erased;
    std::array<Slot, kPiece> piece;
    std::uint64_t at = XXH3_64bits(&key, sizeof key) & (slots_ - 1);
    for (;; at = (at / kPiece * kPiece + kPiece) & (slots_ - 1)) {
      const std::uint64_t first = at / kPiece * kPiece;
      LFS_TRY(read(first, piece));
      for (std::uint64_t i = at - first; i < kPiece; ++i) {
        const Slot& slot = piece[i];
        if (slot.key == key) {
          return Place{first + i, true, false, slot.value};
        }
        if (slot.key == kNone) {
          return erased ? Place{*erased, false, false, {}} : Place{first + i, false, true, {}};
        }
        if (slot.key == kErased && !erased) {
          erased = first + i;
        }
      }
    }
  }

  // What holds twice the entries that are there.
  Result<void, Failure> grow() {
    SpillTable larger(most_memory_);
    larger.slots_ = std::max(kFirstSlots, live_ * 4 > slots_ ? slots_ * 2 : slots_);
    if (larger.slots_ * sizeof(Slot) <= most_memory_) {
      larger.memory_.resize(larger.slots_);
    } else {
      LFS_ASSIGN(larger.file_, sys::TemporaryFile::create());
      LFS_TRY(larger.file_->resize(larger.slots_ * sizeof(Slot)));
    }
    LFS_TRY(for_each(
        [&larger](const SpillKey& key, const Value& value) { return larger.set(key, value); }));
    *this = std::move(larger);
    return {};
  }

  Result<void, Failure> clear() {
    *this = SpillTable(most_memory_);
    return {};
  }

  Result<void, Failure> read(std::uint64_t first, std::array<Slot, kPiece>& piece) const {
    if (file_) {
      return file_->read(reinterpret_cast<char*>(piece.data()), sizeof piece, first * sizeof(Slot));
    }
    std::copy_n(memory_.begin() + static_cast<std::ptrdiff_t>(first), kPiece, piece.begin());
    return {};
  }
  Result<void, Failure> write(std::uint64_t at, const Slot& slot) {
    if (file_) {
      return file_->write({reinterpret_cast<const char*>(&slot), sizeof slot}, at * sizeof(Slot));
    }
    memory_[at] = slot;
    return {};
  }

  std::size_t most_memory_;
  std::uint64_t slots_ = 0;  // 0 or a power of two
  std::uint64_t used_ = 0;   // slots that are not kNone
  std::uint64_t live_ = 0;
  std::vector<Slot> memory_;
  std::optional<sys::TemporaryFile> file_;
};

}  // namespace layerfs
