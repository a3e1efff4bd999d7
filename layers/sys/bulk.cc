#include "layers/sys/bulk.h"

#include <fcntl.h>
#include <unistd.h>

namespace layerfs::sys {

Status write_fully(int fd, std::string_view bytes, std::uint64_t offset) {
  while (!bytes.empty()) {
    const ssize_t n = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno != EINTR) {
      return Errno::last();
    }
    const auto done = n < 0 ? 0 : static_cast<std::size_t>(n);
    bytes.remove_prefix(done);
    offset += done;
  }
  return {};
}

Status for_each_entry(int dir, const std::function<Status(const DirEntry&)>& visit) {
  LFS_ASSIGN(const UniqueFd fd, open_at({dir, "."}, O_RDONLY | O_DIRECTORY));
  DirReader reader(fd.get());
  for (;;) {
    LFS_ASSIGN(const auto entry, reader.next());
    if (!entry) {
      return {};
    }
    LFS_TRY(visit(*entry));
  }
}

Result<std::vector<std::string>> names_in(int dir) {
  std::vector<std::string> names;
  LFS_TRY(for_each_entry(dir, [&names](const DirEntry& entry) -> Status {
    names.emplace_back(entry.name);
    return {};
  }));
  return names;
}

}  // namespace layerfs::sys
