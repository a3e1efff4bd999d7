// Handlers of directory reading. There is no open directory: OPENDIR is refused once for
// all, and a reader's position says all that is known of it (fs/listing_generation.h).
#include <cstring>
#include <string>
#include <vector>

#include "fs/fuse_request.h"

namespace layerfs {
namespace {

constexpr std::size_t kAlignment = 8;
// sizeof(fuse_dirent) and sizeof(fuse_direntplus) before the name (linux/fuse.h).
constexpr std::size_t kDirentBytes = 24;
constexpr std::size_t kDirentPlusBytes = 152;

std::size_t padded(std::size_t bytes) { return (bytes + kAlignment - 1) & ~(kAlignment - 1); }

void read_directory(fuse_req_t req, Op op, fuse_ino_t ino, std::size_t size, off_t offset,
                    FileSystem::Listing kind) {
  serve(req, op, [&](FuseContext& context) -> Answer {
    if (size > kMaxReadBytes) {
      return Errno(EINVAL);
    }
    const bool plus = kind == FileSystem::Listing::WithAttributes;
    const std::size_t header = plus ? kDirentPlusBytes : kDirentBytes;
    char* const room = reply_room(size);
    std::size_t used = 0;
    std::vector<NodeId> looked_up;
    const auto fits = [&](std::size_t name) { return used + padded(header + name) <= size; };
    const auto add = [&](const FileSystem::ListedEntry& entry) {
      const std::string name(entry.name);
      const auto next = static_cast<off_t>(entry.offset);
      if (plus) {
        fuse_entry_param param = entry_param(context, {entry.id, entry.attr});
        used += fuse_add_direntry_plus(req, room + used, size - used, name.c_str(), &param, next);
        if (entry.id != 0) {
          looked_up.push_back(entry.id);
        }
      } else {
        used += fuse_add_direntry(req, room + used, size - used, name.c_str(), &entry.attr, next);
      }
    };
    const auto read =
        context.fs.read_directory(ino, static_cast<std::uint64_t>(offset), kind, fits, add);
    if (!read) {
      return read.error();
    }
    if (used == 0 && *read == FileSystem::ReadTo::OutdatedEnd) {
      // The empty reply makes the kernel take what it has from this reader for the whole
      // directory, perhaps as it is now. Without its pages it starts anew.
      fuse_lowlevel_notify_inval_inode(context.session, ino, 0, 0);
    }
    if (fuse_reply_buf(req, room, used) < 0) {
      for (const NodeId id : looked_up) {
        context.fs.forget(id, 1);
      }
    }
    return {};
  });
}

void on_opendir(fuse_req_t req, fuse_ino_t /*ino*/, fuse_file_info* fi) {
  serve(req, Op::Opendir, [&](FuseContext& context) -> Answer {
    if (context.no_opendir) {
      return Errno(ENOSYS);
    }
    fi->keep_cache = 1;
    fi->cache_readdir = 1;
    fuse_reply_open(req, fi);
    return {};
  });
}

void on_readdir(fuse_req_t req, fuse_ino_t ino, std::size_t size, off_t offset,
                fuse_file_info* /*fi*/) {
  read_directory(req, Op::Readdir, ino, size, offset, FileSystem::Listing::Names);
}

void on_readdirplus(fuse_req_t req, fuse_ino_t ino, std::size_t size, off_t offset,
                    fuse_file_info* /*fi*/) {
  read_directory(req, Op::Readdirplus, ino, size, offset, FileSystem::Listing::WithAttributes);
}

void on_fsyncdir(fuse_req_t req, fuse_ino_t ino, int data_only, fuse_file_info* /*fi*/) {
  serve(req, Op::Fsyncdir,
        [&](FuseContext& context) { return answer(context.fs.sync(ino, data_only != 0), req); });
}

}  // namespace

void add_directory_operations(fuse_lowlevel_ops& ops) {
  ops.opendir = on_opendir;
  ops.readdir = on_readdir;
  ops.readdirplus = on_readdirplus;
  ops.fsyncdir = on_fsyncdir;
}

}  // namespace layerfs
