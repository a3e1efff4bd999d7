// Writing file data.
#include <sys/stat.h>

#include "fs/file_system.h"
#include "layers/sys/bulk.h"

namespace layerfs {

Result<std::size_t> FileSystem::write(NodeId node, std::string_view bytes, off_t offset,
                                      WriteFrom from) {
  LFS_ASSIGN(const SharedFd fd, data(node, Access::Write));
  if (from == WriteFrom::Caller) {
    return sys::write_most(fd->get(), bytes, static_cast<std::uint64_t>(offset));
  }
  const std::lock_guard mtime_lock(mtime_mutexes_[node % mtime_mutexes_.size()]);
  LFS_ASSIGN(const struct statx st, sys::stat_at({fd->get()}));
  // Privileges went when the user wrote; what was given since is not writing out's to take.
  LFS_ASSIGN(const auto capability, sys::KeptCapability::of(fd->get()));
  const auto written = sys::write_most(fd->get(), bytes, static_cast<std::uint64_t>(offset));
  LFS_TRY(capability.restore());
  if (from == WriteFrom::Pages) {
    return written;
  }
  const struct timespec times[2] = {{0, UTIME_OMIT}, {st.stx_mtime.tv_sec, st.stx_mtime.tv_nsec}};
  LFS_TRY(sys::utimens_at({fd->get()}, times));
  return written;
}

}  // namespace layerfs
