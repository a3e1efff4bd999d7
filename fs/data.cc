// Writing file data.
#include <sys/stat.h>
#include <unistd.h>

#include "fs/file_system.h"

namespace layerfs {
namespace {

Result<std::size_t> write_all(int fd, std::string_view bytes, off_t offset) {
  std::size_t written = 0;
  while (written < bytes.size()) {
    const ssize_t n = ::pwrite(fd, bytes.data() + written, bytes.size() - written,
                               offset + static_cast<off_t>(written));
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

}  // namespace

Result<std::size_t> FileSystem::write(NodeId node, std::string_view bytes, off_t offset,
                                      WriteFrom from) {
  LFS_ASSIGN(const SharedFd fd, data(node, Access::Write));
  if (from == WriteFrom::Caller) {
    return write_all(fd->get(), bytes, offset);
  }
  const std::lock_guard mtime_lock(mtime_mutexes_[node % mtime_mutexes_.size()]);
  LFS_ASSIGN(const struct statx st, sys::stat_at({fd->get()}));
  // Privileges went when the user wrote; what was given since is not writing out's to take.
  LFS_ASSIGN(const auto capability, sys::KeptCapability::of(fd->get()));
  const auto written = write_all(fd->get(), bytes, offset);
  LFS_TRY(capability.restore());
  if (from == WriteFrom::Pages) {
    return written;
  }
  const struct timespec times[2] = {{0, UTIME_OMIT}, {st.stx_mtime.tv_sec, st.stx_mtime.tv_nsec}};
  LFS_TRY(sys::utimens_at({fd->get()}, times));
  return written;
}

}  // namespace layerfs
