// The built-in system call filter as data, after docker's default: what is not named is
// refused with EPERM.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace layerfs::run {

// Names separated by blanks. `capability`: only with it; -1: always.
struct AllowedCalls {
  int capability;
  std::string_view names;
};
std::span<const AllowedCalls> default_allowed_calls();

// personality(2): the values that change nothing of security.
std::span<const std::uint64_t> allowed_personalities();

}  // namespace layerfs::run
