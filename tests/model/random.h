// Random numbers that are the same on every machine for the same seed.
#pragma once

#include <cstdint>

namespace layerfs::model {

inline std::uint64_t mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30U)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27U)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31U);
}

class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(mix(seed)) {}
  std::uint64_t next() { return mix(state_++); }
  // In [0, bound).
  std::uint64_t below(std::uint64_t bound) { return bound == 0 ? 0 : next() % bound; }
  std::int64_t between(std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(below(static_cast<std::uint64_t>(high - low) + 1));
  }
  bool chance(unsigned percent) { return below(100) < percent; }

 private:
  std::uint64_t state_;
};

// The byte at `offset` of data written with `fill`: never zero, so that lost data and
// holes differ from it.
inline unsigned char data_byte(std::uint64_t fill, std::uint64_t offset) {
  return static_cast<unsigned char>(mix(fill * 0x10001ULL + offset / 8) >> (8 * (offset % 8)) | 1U);
}

inline void fill_data(std::uint64_t fill, std::uint64_t offset, unsigned char* out,
                      std::uint64_t n) {
  for (std::uint64_t i = 0; i < n; ++i) {
    out[i] = data_byte(fill, offset + i);
  }
}

}  // namespace layerfs::model
