// Operations on one open file.
#pragma once

#include <array>
#include <cstdint>
#include <ctime>

#include "tests/model/side.h"

namespace layerfs::model {

// `offset` -1: at the file's own position.
Outcome write_data(int fd, std::int64_t offset, std::int64_t length, std::int64_t fill);
Outcome read_data(int fd, std::int64_t offset, std::int64_t length);
Outcome copy_range(int from, int to, const Op& op);
Outcome run_on_file(const Op& op, int fd);
// The names, sorted.
Outcome list_xattrs(const char* path);
const char* xattr_name(std::int64_t number);
// From how, sec, nsec at n[first]: 0 both times given, 1 both now, 2 only atime given,
// 3 mtime given and atime now.
void make_times(const std::array<std::int64_t, 5>& n, std::size_t first, struct timespec* times);

}  // namespace layerfs::model
