// User or group ids as the mount shows them, against those on disk.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "layers/sys/result.h"

namespace layerfs {

// Immutable after construction. The default value shows every id as it is.
//
// Follows fuse-overlayfs (C, main.c: find_mapping), except that an id that the map
// cannot write is refused unless asked otherwise, where fuse-overlayfs writes the overflow
// id.
class IdMap {
 public:
  // What /proc/sys/kernel/overflow{u,g}id say by default.
  static constexpr std::uint32_t kDefaultOverflowId = 65534;

  IdMap() = default;

  // Triples {stored, shown, count}: stored + i on disk is shown as shown + i. None
  // is the identity. EINVAL, as for /proc/PID/uid_map: a size of 0, a range that
  // reaches 4294967295 (no id), two ranges that share an id on disk or shown.
  static Result<IdMap> from_triples(const std::vector<std::array<std::uint32_t, 3>>& triples,
                                    std::uint32_t overflow_id = kDefaultOverflowId);
  // Shows every id as `shown`. Ids written are not squashed: they go to disk as they
  // are. The caller must ignore a chown that the kernel refuses (is_squash()), which is
  // what lets a package manager run as the one user there is.
  static IdMap squash(std::uint32_t shown);
  // This map for what is written, squashed for what is shown.
  IdMap squashed_to(std::uint32_t shown) const;

  // This map, with the overflow id on disk for what no range can write.
  IdMap writing_overflow() const;

  // An id that no range has is shown as the overflow id.
  std::uint32_t to_shown(std::uint32_t on_disk) const;
  // nullopt: no id on disk stands for it (EINVAL for the caller's user, as chown(2)
  // in a user namespace gives).
  std::optional<std::uint32_t> to_disk(std::uint32_t shown) const;
  // Both directions change nothing.
  bool is_identity() const { return by_disk_.empty() && !squash_; }
  bool is_squash() const { return squash_.has_value(); }

 private:
  struct Range {
    std::uint32_t from;
    std::uint32_t to;
    std::uint32_t size;
  };
  static std::optional<std::uint32_t> map(const std::vector<Range>& ranges, std::uint32_t id);
  static bool sort_disjoint(std::vector<Range>& ranges);

  std::vector<Range> by_disk_;   // sorted by from = on disk
  std::vector<Range> by_shown_;  // sorted by from = shown
  std::optional<std::uint32_t> squash_;
  std::uint32_t overflow_id_ = kDefaultOverflowId;
  bool writes_overflow_ = false;
};

}  // namespace layerfs
