#include "fs/fuse_ops.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "fs/fuse_init.h"
#include "fs/fuse_request.h"
#include "layers/sys/resident.h"

namespace layerfs {

double attribute_timeout(FuseContext& context, NodeId node) {
  // A mapping of a file that is passed through changes size and times unseen.
  // And who begins to write is to ask for them while changes are held back.
  const bool fresh = context.open_modes.may_change_unseen(node) || context.gate.is_settling();
  return fresh ? 0.0 : context.settings.timeout;
}

// A read of 128 KiB, the kernel's usual read-ahead.
constexpr std::size_t kUsualReply = std::size_t{128} << 10U;

char* reply_room(std::size_t size) {
  thread_local std::unique_ptr<char[]> room;
  thread_local std::size_t have = 0;
  if (have < size) {
    have = 0;
    room.reset();
    const std::size_t next = std::max(size, kUsualReply);
    room = std::make_unique_for_overwrite<char[]>(next);
    sys::populate(room.get(), kUsualReply);
    have = next;
  }
  return room.get();
}

fuse_entry_param entry_param(FuseContext& context, const NodeEntry& entry) {
  fuse_entry_param param{};
  param.ino = entry.id;
  param.attr = entry.attr;
  param.entry_timeout = context.settings.timeout;
  param.attr_timeout = attribute_timeout(context, entry.id);
  return param;
}

void reply_entry(FuseContext& context, fuse_req_t req, const NodeEntry& entry) {
  const fuse_entry_param param = entry_param(context, entry);
  if (fuse_reply_entry(req, &param) < 0) {
    context.fs.take_back(entry);
  }
}

namespace {

void on_init(void* userdata, fuse_conn_info* conn) {
  negotiate(*static_cast<FuseContext*>(userdata), conn);
}

void on_lookup(fuse_req_t req, fuse_ino_t parent, const char* name) {
  serve(req, Op::Lookup, [&](FuseContext& context) -> Answer {
    const auto entry = context.fs.lookup(parent, name);
    if (entry) {
      reply_entry(context, req, *entry);
      return {};
    }
    if (entry.error().value() != ENOENT) {
      return entry.error();
    }
    // Nodeid 0: the kernel may remember that there is nothing.
    fuse_entry_param nothing{};
    nothing.entry_timeout = context.settings.timeout;
    fuse_reply_entry(req, &nothing);
    return {};
  });
}

void on_forget(fuse_req_t req, fuse_ino_t ino, std::uint64_t count) {
  auto& context = *static_cast<FuseContext*>(fuse_req_userdata(req));
  const auto start = std::chrono::steady_clock::now();
  context.fs.forget(ino, count);
  context.statistics.record(Op::Forget, std::chrono::steady_clock::now() - start, false);
  fuse_reply_none(req);
}

void on_forget_multi(fuse_req_t req, std::size_t count, fuse_forget_data* forgets) {
  auto& context = *static_cast<FuseContext*>(fuse_req_userdata(req));
  const auto start = std::chrono::steady_clock::now();
  for (std::size_t i = 0; i < count; ++i) {
    context.fs.forget(forgets[i].ino, forgets[i].nlookup);
  }
  context.statistics.record(Op::Forget, std::chrono::steady_clock::now() - start, false);
  fuse_reply_none(req);
}

void on_getattr(fuse_req_t req, fuse_ino_t ino, fuse_file_info* /*fi*/) {
  serve(req, Op::Getattr, [&](FuseContext& context) -> Answer {
    const auto attr = context.fs.get_attributes(ino);
    if (!attr) {
      return attr.error();
    }
    fuse_reply_attr(req, &*attr, attribute_timeout(context, ino));
    return {};
  });
}

struct timespec time_of(int to_set, int set, int now, const struct timespec& value) {
  if ((to_set & now) != 0) {
    return {0, UTIME_NOW};
  }
  return (to_set & set) != 0 ? value : timespec{0, UTIME_OMIT};
}

// FATTR_KILL_SUIDGID has the value of libfuse's KILL_SUID. Nothing to set is what the kernel
// asks before a write that drops bits, by anyone who has the file open, and for a chown(2)
// of neither owner nor group, by anyone at all and unchecked: it leaves both to us with
// FUSE_HANDLE_KILLPRIV_V2 (Linux 6.18, fs/fuse/dir.c: fuse_setattr). With the writeback
// cache a chown carries the kernel's ctime; without it only an open writer can write.
SetIds set_ids_of(FuseContext& context, fuse_ino_t ino, int to_set) {
  if ((to_set & FUSE_SET_ATTR_KILL_SUID) != 0) {
    return SetIds::Drop;
  }
  if ((to_set & ~FUSE_SET_ATTR_CTIME) != 0) {
    return SetIds::Keep;
  }
  const bool writes =
      context.settings.io == IoMode::Cached ? to_set == 0 : context.open_modes.has_writer(ino);
  return writes ? SetIds::DropByWrite : SetIds::DropByOwner;
}

void on_setattr(fuse_req_t req, fuse_ino_t ino, struct stat* attr, int to_set,
                fuse_file_info* /*fi*/) {
  serve(req, Op::Setattr, [&](FuseContext& context) -> Answer {
    AttributeChange change;
    if ((to_set & FUSE_SET_ATTR_MODE) != 0) {
      change.mode = attr->st_mode;
    }
    if ((to_set & FUSE_SET_ATTR_UID) != 0) {
      change.uid = attr->st_uid;
    }
    if ((to_set & FUSE_SET_ATTR_GID) != 0) {
      change.gid = attr->st_gid;
    }
    if ((to_set & FUSE_SET_ATTR_SIZE) != 0) {
      change.size = attr->st_size;
    }
    change.atime = time_of(to_set, FUSE_SET_ATTR_ATIME, FUSE_SET_ATTR_ATIME_NOW, attr->st_atim);
    change.mtime = time_of(to_set, FUSE_SET_ATTR_MTIME, FUSE_SET_ATTR_MTIME_NOW, attr->st_mtim);
    change.set_ids = set_ids_of(context, ino, to_set);
    change.caller = rights_of(req);
    change.kept_times = to_set == (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_CTIME);
    const auto changed = context.fs.set_attributes(ino, change);
    if (!changed) {
      // A part of it may be done, and the kernel is to ask for what is (attributes only).
      fuse_lowlevel_notify_inval_inode(context.session, ino, -1, 0);
      return changed.error();
    }
    fuse_reply_attr(req, &*changed, attribute_timeout(context, ino));
    return {};
  });
}

void on_readlink(fuse_req_t req, fuse_ino_t ino) {
  serve(req, Op::Readlink, [&](FuseContext& context) -> Answer {
    const auto target = context.fs.read_link(ino);
    if (!target) {
      return target.error();
    }
    fuse_reply_readlink(req, target->c_str());
    return {};
  });
}

void make(fuse_req_t req, Op op, fuse_ino_t parent, const char* name, mode_t mode, dev_t rdev,
          const char* target) {
  serve(req, op, [&](FuseContext& context) -> Answer {
    const auto made = context.fs.create_node(parent, name, caller_of(req), mode, rdev, target);
    if (!made) {
      return made.error();
    }
    reply_entry(context, req, made->entry);
    return {};
  });
}

void on_mknod(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode, dev_t rdev) {
  make(req, Op::Mknod, parent, name, mode, rdev, "");
}

void on_mkdir(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode) {
  make(req, Op::Mkdir, parent, name, (mode & 07777) | S_IFDIR, 0, "");
}

void on_symlink(fuse_req_t req, const char* target, fuse_ino_t parent, const char* name) {
  make(req, Op::Symlink, parent, name, S_IFLNK | 0777, 0, target);
}

void on_unlink(fuse_req_t req, fuse_ino_t parent, const char* name) {
  serve(req, Op::Unlink, [&](FuseContext& context) {
    return answer(context.fs.remove(parent, name, sys::UnlinkKind::File), req);
  });
}

void on_rmdir(fuse_req_t req, fuse_ino_t parent, const char* name) {
  serve(req, Op::Rmdir, [&](FuseContext& context) {
    return answer(context.fs.remove(parent, name, sys::UnlinkKind::Directory), req);
  });
}

void on_rename(fuse_req_t req, fuse_ino_t parent, const char* name, fuse_ino_t new_parent,
               const char* new_name, unsigned flags) {
  serve(req, Op::Rename, [&](FuseContext& context) -> Answer {
    const auto renamed = context.fs.rename(parent, name, new_parent, new_name, flags);
    if (!renamed) {
      return renamed.error();
    }
    // Before the reply, or a listing and a stat right after it could still differ. Of an
    // inode the kernel takes no lock for this (fs/fuse/inode.c: fuse_reverse_inval_inode).
    for (const NodeId id : renamed->reparented) {
      fuse_lowlevel_notify_inval_inode(context.session, id, 0, 0);
    }
    if (renamed->renumbered != 0) {
      // Attributes only (offset below 0).
      fuse_lowlevel_notify_inval_inode(context.session, renamed->renumbered, -1, 0);
    }
    fuse_reply_err(req, 0);
    return {};
  });
}

void on_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent, const char* new_name) {
  serve(req, Op::Link, [&](FuseContext& context) -> Answer {
    const auto entry = context.fs.link(ino, new_parent, new_name);
    if (!entry) {
      return entry.error();
    }
    reply_entry(context, req, *entry);
    return {};
  });
}

void on_statfs(fuse_req_t req, fuse_ino_t /*ino*/) {
  serve(req, Op::Statfs, [&](FuseContext& context) -> Answer {
    auto st = context.fs.statistics();
    if (!st) {
      return st.error();
    }
    st->f_namemax = context.settings.name_max;
    fuse_reply_statfs(req, &*st);
    return {};
  });
}

void on_setxattr(fuse_req_t req, fuse_ino_t ino, const char* name, const char* value,
                 std::size_t size, int flags) {
  serve(req, Op::Setxattr, [&](FuseContext& context) {
    if (!context.settings.xattrs) {
      return Answer(Errno(ENOSYS));
    }
    return answer(context.fs.set_xattr(ino, name, {value, size}, flags, rights_of(req)), req);
  });
}

// As getxattr(2): size 0 asks for the length.
Answer reply_bytes(fuse_req_t req, std::string_view bytes, std::size_t size) {
  if (size == 0) {
    fuse_reply_xattr(req, bytes.size());
  } else if (bytes.size() > size) {
    return Errno(ERANGE);
  } else {
    fuse_reply_buf(req, bytes.data(), bytes.size());
  }
  return {};
}

void on_getxattr(fuse_req_t req, fuse_ino_t ino, const char* name, std::size_t size) {
  serve(req, Op::Getxattr, [&](FuseContext& context) -> Answer {
    if (!context.settings.xattrs) {
      return Errno(ENOSYS);
    }
    const auto value = context.fs.get_xattr(ino, name);
    return value ? reply_bytes(req, *value, size) : Answer(value.error());
  });
}

void on_listxattr(fuse_req_t req, fuse_ino_t ino, std::size_t size) {
  serve(req, Op::Listxattr, [&](FuseContext& context) -> Answer {
    if (!context.settings.xattrs) {
      return Errno(ENOSYS);
    }
    const auto names = context.fs.list_xattrs(ino);
    if (!names) {
      return names.error();
    }
    std::string list;
    // Kernel filesystems show these to CAP_SYS_ADMIN only (fs/xattr.c: xattr_list_one's
    // callers); a request tells the user but not the capabilities.
    const bool privileged = caller_of(req).uid == 0;
    for (const std::string& name : *names) {
      if (!privileged && name.starts_with("trusted.")) {
        continue;
      }
      list.append(name).push_back('\0');
    }
    return reply_bytes(req, list, size);
  });
}

void on_removexattr(fuse_req_t req, fuse_ino_t ino, const char* name) {
  serve(req, Op::Removexattr, [&](FuseContext& context) {
    if (!context.settings.xattrs) {
      return Answer(Errno(ENOSYS));
    }
    return answer(context.fs.remove_xattr(ino, name), req);
  });
}

#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 18)
void on_statx(fuse_req_t req, fuse_ino_t ino, int /*flags*/, int /*mask*/, fuse_file_info* /*fi*/) {
  serve(req, Op::Statx, [&](FuseContext& context) -> Answer {
    auto st = context.fs.get_extended_attributes(ino);
    if (!st) {
      return st.error();
    }
    fuse_reply_statx(req, 0, &*st, attribute_timeout(context, ino));
    return {};
  });
}
#endif

}  // namespace

const fuse_lowlevel_ops& fuse_operations() {
  static const fuse_lowlevel_ops kOperations = [] {
    fuse_lowlevel_ops ops{};
    ops.init = on_init;
    ops.lookup = on_lookup;
    ops.forget = on_forget;
    ops.forget_multi = on_forget_multi;
    ops.getattr = on_getattr;
    ops.setattr = on_setattr;
    ops.readlink = on_readlink;
    ops.mknod = on_mknod;
    ops.mkdir = on_mkdir;
    ops.symlink = on_symlink;
    ops.unlink = on_unlink;
    ops.rmdir = on_rmdir;
    ops.rename = on_rename;
    ops.link = on_link;
    ops.statfs = on_statfs;
    ops.setxattr = on_setxattr;
    ops.getxattr = on_getxattr;
    ops.listxattr = on_listxattr;
    ops.removexattr = on_removexattr;
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 18)
    ops.statx = on_statx;
#endif
    add_data_operations(ops);
    add_directory_operations(ops);
    return ops;
  }();
  return kOperations;
}

}  // namespace layerfs
