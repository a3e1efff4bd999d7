#include "layers/link_index.h"

#include <array>
#include <charconv>
#include <cinttypes>
#include <cstdio>

namespace layerfs {
namespace {

constexpr std::size_t kDigits = 16;

std::optional<std::uint64_t> parse_hex(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, 16);
  if (error != std::errc() || end != text.data() + text.size()) {
    return std::nullopt;
  }
  return number;
}

}  // namespace

std::string format_index_name(IndexKey key) {
  std::array<char, 2 * kDigits + 16> text{};
  std::snprintf(text.data(), text.size(), "%016" PRIx64 "-%016" PRIx64, key.fsid, key.ino);
  return text.data();
}

std::optional<IndexKey> parse_index_name(std::string_view name) {
  if (name.size() != 2 * kDigits + 1 || name[kDigits] != '-') {
    return std::nullopt;
  }
  const auto fsid = parse_hex(name.substr(0, kDigits));
  const auto ino = parse_hex(name.substr(kDigits + 1));
  if (!fsid || !ino) {
    return std::nullopt;
  }
  return IndexKey{*fsid, *ino};
}

std::string format_link_delta(int delta) {
  std::array<char, 16> text{};
  std::snprintf(text.data(), text.size(), "U%+d", delta);
  return text.data();
}

int parse_link_delta(std::string_view text) {
  int delta = 0;
  if (text.starts_with("U")) {
    text.remove_prefix(text.starts_with("U+") ? 2 : 1);
    std::from_chars(text.data(), text.data() + text.size(), delta);
  }
  return delta;
}

}  // namespace layerfs
