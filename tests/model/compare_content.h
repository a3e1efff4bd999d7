#pragma once

#include <cstdint>
#include <string>

#include "tests/model/compare.h"

namespace layerfs::model {

// Files up to a limit whole; of larger ones what either side calls data, and samples of
// the rest.
Verdict compare_content(const std::string& what, int oracle_fd, int mount_fd, std::int64_t size);
// What the mount calls a hole holds no data in the oracle; its answers advance.
Verdict compare_holes(const std::string& what, int oracle_fd, int mount_fd, std::int64_t size);

}  // namespace layerfs::model
