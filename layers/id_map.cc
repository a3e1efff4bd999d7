#include "layers/id_map.h"

#include <algorithm>
#include <limits>

namespace layerfs {

bool IdMap::sort_disjoint(std::vector<Range>& ranges) {
  std::ranges::sort(ranges, {}, &Range::from);
  for (std::size_t i = 1; i < ranges.size(); ++i) {
    if (ranges[i].from - ranges[i - 1].from < ranges[i - 1].size) {
      return false;
    }
  }
  return true;
}

Result<IdMap> IdMap::from_triples(const std::vector<std::array<std::uint32_t, 3>>& triples,
                                  std::uint32_t overflow_id) {
  constexpr std::uint32_t kNoId = std::numeric_limits<std::uint32_t>::max();
  IdMap map;
  map.overflow_id_ = overflow_id;
  for (const auto& [stored, shown, count] : triples) {
    if (count == 0 || count > kNoId - stored || count > kNoId - shown) {
      return Errno(EINVAL);
    }
    map.by_disk_.push_back({stored, shown, count});
    map.by_shown_.push_back({shown, stored, count});
  }
  if (!sort_disjoint(map.by_disk_) || !sort_disjoint(map.by_shown_)) {
    return Errno(EINVAL);
  }
  return map;
}

IdMap IdMap::squash(std::uint32_t shown) { return IdMap().squashed_to(shown); }

IdMap IdMap::squashed_to(std::uint32_t shown) const {
  IdMap map = *this;
  map.squash_ = shown;
  return map;
}

IdMap IdMap::writing_overflow() const {
  IdMap map = *this;
  map.writes_overflow_ = true;
  return map;
}

std::optional<std::uint32_t> IdMap::map(const std::vector<Range>& ranges, std::uint32_t id) {
  const auto above = std::ranges::upper_bound(ranges, id, {}, &Range::from);
  if (above == ranges.begin()) {
    return std::nullopt;
  }
  const Range& range = *std::prev(above);
  const std::uint32_t offset = id - range.from;
  if (offset >= range.size) {
    return std::nullopt;
  }
  return range.to + offset;
}

std::uint32_t IdMap::to_shown(std::uint32_t on_disk) const {
  if (squash_) {
    return *squash_;
  }
  return by_disk_.empty() ? on_disk : map(by_disk_, on_disk).value_or(overflow_id_);
}

std::optional<std::uint32_t> IdMap::to_disk(std::uint32_t shown) const {
  if (by_shown_.empty()) {
    return shown;
  }
  const auto id = map(by_shown_, shown);
  return !id && writes_overflow_ ? overflow_id_ : id;
}

}  // namespace layerfs
