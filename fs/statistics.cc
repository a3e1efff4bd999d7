#include "fs/statistics.h"

namespace layerfs {

const char* op_name(Op op) {
  // The kernel's names (linux/fuse.h: enum fuse_opcode), in the order of Op.
  static constexpr std::array<const char*, static_cast<std::size_t>(Op::Count)> kNames = {
      "LOOKUP",    "FORGET",      "GETATTR",         "SETATTR",     "READLINK", "MKNOD",
      "MKDIR",     "UNLINK",      "RMDIR",           "SYMLINK",     "RENAME",   "LINK",
      "OPEN",      "READ",        "WRITE",           "STATFS",      "RELEASE",  "FSYNC",
      "SETXATTR",  "GETXATTR",    "LISTXATTR",       "REMOVEXATTR", "FLUSH",    "OPENDIR",
      "READDIR",   "READDIRPLUS", "FSYNCDIR",        "CREATE",      "TMPFILE",  "IOCTL",
      "FALLOCATE", "LSEEK",       "COPY_FILE_RANGE", "STATX"};
  return kNames[static_cast<std::size_t>(op)];
}

}  // namespace layerfs
