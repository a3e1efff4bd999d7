// Zeros that take no room in a file.
#pragma once

#include <cstdint>
#include <string_view>

#include "layers/sys/result.h"

namespace layerfs::oci {

bool is_zero(std::string_view bytes);

// Leaves out blocks of zeros. Returns where the last byte written ends; 0: none was.
Result<std::uint64_t> write_without_holes(int fd, std::string_view bytes, std::uint64_t offset);

}  // namespace layerfs::oci
