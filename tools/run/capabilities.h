// Capabilities by name and as sets; what a container starts with.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "tools/common/problem.h"

namespace layerfs::run {

// What podman gives a container.
std::uint64_t default_capabilities();
// "all", "net_raw" or "CAP_NET_RAW" in any case, as a set of bits.
Outcome<std::uint64_t> parse_capability(std::string_view name);
std::string capability_names(std::uint64_t set);

// Takes from the calling process every capability that is not in `keep`, for ever: the
// bounding, permitted and effective sets become it, inheritable and ambient empty.
Outcome<void> limit_capabilities(std::uint64_t keep);
// The bounding set only, while the privilege to do so is still there.
Outcome<void> limit_bounding_set(std::uint64_t keep);
// Permitted and effective become `keep`; inheritable and ambient empty.
Outcome<void> set_capabilities(std::uint64_t keep);

}  // namespace layerfs::run
