// What takes several system calls: all of the bytes, all of the names.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "layers/sys/syscalls.h"

namespace layerfs::sys {

// pwrite(2) until all is written, or one fails; an error only if nothing was.
Result<std::size_t> write_most(int fd, std::string_view bytes, std::uint64_t offset);
// Until all is written.
Status write_fully(int fd, std::string_view bytes, std::uint64_t offset);

// Calls `visit` for each entry of the directory, which may be O_PATH and keeps its position,
// until it fails.
Status for_each_entry(int dir, const std::function<Status(const DirEntry&)>& visit);
// All names in it, in the kernel's order.
Result<std::vector<std::string>> names_in(int dir);

}  // namespace layerfs::sys
