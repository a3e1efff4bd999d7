#include "layers/sys/bulk.h"

#include <fcntl.h>
#include <unistd.h>

namespace layerfs::sys {

Result<std::size_t> write_most(int fd, std::string_view bytes, std::uint64_t offset) {
  std::size_t written = 0;
  while (written < bytes.size()) {
    const ssize_t n = ::pwrite(fd, bytes.data() + written, bytes.size() - written,
                               static_cast<off_t>(offset + written));
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0 && written == 0) {
      return Errno::last();
    }
    if (n <= 0) {
      break;
    }
    written += static_cast<std::size_t>(n);
  }
  return written;
}

Status write_fully(int fd, std::string_view bytes, std::uint64_t offset) {
  while (!bytes.empty()) {
    LFS_ASSIGN(const std::size_t written, write_most(fd, bytes, offset));
    bytes.remove_prefix(written);
    offset += written;
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
