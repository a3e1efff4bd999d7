// What is negotiated with the kernel at INIT (shared/FUSE.md's rules, fs/fuse/inode.c:
// process_init_reply).
#include "fs/fuse_init.h"

#include <algorithm>

namespace layerfs {
namespace {

constexpr unsigned kMaxBackground = 64;
constexpr unsigned kCongestion = 48;
constexpr unsigned kMaxWriteBytes = 1U << 20U;

#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
bool want(fuse_conn_info* conn, std::uint64_t flag) { return fuse_set_feature_flag(conn, flag); }
void refuse(fuse_conn_info* conn, std::uint64_t flag) { fuse_unset_feature_flag(conn, flag); }
#else
bool want(fuse_conn_info* conn, unsigned flag) {
  if ((conn->capable & flag) == 0) {
    return false;
  }
  conn->want |= flag;
  return true;
}
void refuse(fuse_conn_info* conn, unsigned flag) { conn->want &= ~flag; }
#endif

}  // namespace

void negotiate(FuseContext& context, fuse_conn_info* conn) {
  context.proto_major = conn->proto_major;
  context.proto_minor = conn->proto_minor;
  // The kernel applies no umask: a default ACL may take its place.
  want(conn, FUSE_CAP_DONT_MASK);
  want(conn, FUSE_CAP_PARALLEL_DIROPS);
  want(conn, FUSE_CAP_ASYNC_READ);
  want(conn, FUSE_CAP_ASYNC_DIO);
  want(conn, FUSE_CAP_CACHE_SYMLINKS);
  want(conn, FUSE_CAP_READDIRPLUS);
  want(conn, FUSE_CAP_IOCTL_DIR);
  want(conn, FUSE_CAP_EXPLICIT_INVAL_DATA);
  context.no_opendir = want(conn, FUSE_CAP_NO_OPENDIR_SUPPORT);
  // With it, a listing whose names were all read first costs one LOOKUP a name later.
  refuse(conn, FUSE_CAP_READDIRPLUS_AUTO);
  // The mount owns its upper: nobody else changes data, and asking costs a request.
  refuse(conn, FUSE_CAP_AUTO_INVAL_DATA);
  // Splicing a request is two system calls where reading it is one.
  refuse(conn, FUSE_CAP_SPLICE_READ);
  refuse(conn, FUSE_CAP_FLOCK_LOCKS);
  refuse(conn, FUSE_CAP_POSIX_LOCKS);
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
  // Without it every write asks for security.capability.
  want(conn, FUSE_CAP_HANDLE_KILLPRIV_V2);
  // File handles are not decodable after their node is forgotten.
  want(conn, FUSE_CAP_NO_EXPORT_SUPPORT);
#endif
  refuse(conn, FUSE_CAP_EXPORT_SUPPORT);
  refuse(conn, FUSE_CAP_HANDLE_KILLPRIV);
  if (context.settings.acl) {
    want(conn, FUSE_CAP_POSIX_ACL);
  }
  if (context.settings.io == IoMode::Passthrough) {
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
    // Lets another stacking filesystem still be mounted on top.
    conn->max_backing_stack_depth = 0;
    if (want(conn, FUSE_CAP_PASSTHROUGH)) {
      refuse(conn, FUSE_CAP_WRITEBACK_CACHE);
      want(conn, FUSE_CAP_ATOMIC_O_TRUNC);
      context.passthrough_granted = true;
    }
#endif
  }
  if (!context.passthrough_granted) {
    context.settings.io = IoMode::Cached;
    // No OPEN is sent, so the truncation must come as SETATTR.
    refuse(conn, FUSE_CAP_ATOMIC_O_TRUNC);
    want(conn, FUSE_CAP_WRITEBACK_CACHE);
    // The kernel drops what a direct write has made stale in the page cache only if it waits
    // for the write (mm/filemap.c: generic_file_direct_write).
    refuse(conn, FUSE_CAP_ASYNC_DIO);
    context.no_open = want(conn, FUSE_CAP_NO_OPEN_SUPPORT);
  }
  conn->max_background = kMaxBackground;
  conn->congestion_threshold = kCongestion;
  conn->max_read = kReadBytes;
  conn->max_write = std::min(conn->max_write, kMaxWriteBytes);
  conn->time_gran = 1;
}

}  // namespace layerfs
