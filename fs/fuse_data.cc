// Handlers of file data. No open-file state is needed to serve them: a descriptor is
// found by node, so that it follows a copy-up.
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "fs/fuse_request.h"

namespace layerfs {
namespace {

using Access = FileSystem::Access;

constexpr double kOneTick = 1e-6;  // seconds; the kernel rounds up to a tick

bool writes(int flags) { return (flags & O_ACCMODE) != O_RDONLY; }

OpenModes::Register register_with(fuse_req_t req) {
  return [req]([[maybe_unused]] int fd) -> int {
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
    return fuse_passthrough_open(req, fd);
#else
    return 0;
#endif
  };
}

void leave_mode(FuseContext& context, fuse_req_t req, NodeId node, std::uint64_t handle) {
  if (handle == 0) {
    return;
  }
  const auto released = context.open_modes.release(node, handle, [req]([[maybe_unused]] int id) {
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
    fuse_passthrough_close(req, id);
#else
    (void)req;
#endif
  });
  if (released.was_writable_passthrough) {
    // Attributes only (offset below 0): the kernel asks again for what a mapping changed.
    fuse_lowlevel_notify_inval_inode(context.session, node, -1, 0);
  }
}

// Decides how the file just opened is read and written, and says so in `fi`.
Status enter_mode(FuseContext& context, fuse_req_t req, NodeId node, fuse_file_info* fi) {
  if (context.settings.io == IoMode::Cached) {
    fi->fh = 0;
    fi->keep_cache = 1;
    return {};
  }
  const auto write = writes(fi->flags) ? OpenModes::Write::Yes : OpenModes::Write::No;
  LFS_ASSIGN(const OpenModes::Opened opened,
             context.open_modes.open(node, write, register_with(req)));
  fi->fh = opened.handle;
  fi->keep_cache = opened.keep_cache ? 1 : 0;
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
  fi->backing_id = opened.backing_id;
#endif
  if (opened.mode == OpenModes::Mode::Passthrough && writes(fi->flags) &&
      ((fi->flags & O_DSYNC) != 0 || context.fs.is_unsettled_copy(node))) {
    // What it passes through the kernel syncs by itself (O_DSYNC, pwritev2(2) with RWF_DSYNC), the
    // data only: see FileSystem::sync().
    if (const auto synced = context.fs.sync(node, true); !synced) {
      leave_mode(context, req, node, fi->fh);
      return synced.error();
    }
  }
  return {};
}

// Of open(2) with O_TRUNC, whose request tells by a flag that not every libfuse passes on
// that the caller lacks CAP_FSETID.
AttributeChange truncation_by(fuse_req_t req) {
  AttributeChange truncate;
  truncate.size = 0;
  truncate.set_ids = SetIds::DropByWrite;
  truncate.caller = rights_of(req);
  return truncate;
}

void on_open(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) {
  serve(req, Op::Open, [&](FuseContext& context) -> Answer {
    if (context.no_open) {
      // Once for all: the kernel opens, closes and caches by itself from now on.
      return Errno(ENOSYS);
    }
    if ((fi->flags & O_TRUNC) != 0) {
      const AttributeChange truncate = truncation_by(req);
      if (const auto done = context.fs.set_attributes(ino, truncate); !done) {
        return done.error();
      }
    }
    if (const auto entered = enter_mode(context, req, ino, fi); !entered) {
      return entered.error();
    }
    if (fuse_reply_open(req, fi) < 0) {
      leave_mode(context, req, ino, fi->fh);
    }
    return {};
  });
}

void on_release(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) {
  serve(req, Op::Release, [&](FuseContext& context) {
    leave_mode(context, req, ino, fi->fh);
    return answer(Status(), req);
  });
}

Answer reply_create(FuseContext& context, fuse_req_t req, const FileSystem::Creation& creation,
                    fuse_file_info* fi) {
  if (const auto entered = enter_mode(context, req, creation.entry.id, fi); !entered) {
    context.fs.take_back(creation.entry);
    return entered.error();
  }
  fuse_entry_param param = entry_param(context, creation.entry);
  // The kernel looks at the mode of what it opens, and would ask for it at once. A change of
  // the mtime through a mapping may show a tick later (msync(2) allows until then).
  param.attr_timeout = std::max(param.attr_timeout, kOneTick);
  if (fuse_reply_create(req, &param, fi) < 0) {
    leave_mode(context, req, creation.entry.id, fi->fh);
    context.fs.take_back(creation.entry);
  }
  return {};
}

// The name appeared since the kernel last asked: as open(2) without O_EXCL has it.
Answer open_existing(FuseContext& context, fuse_req_t req, fuse_ino_t parent, const char* name,
                     fuse_file_info* fi) {
  const auto entry = context.fs.lookup(parent, name);
  if (!entry) {
    return entry.error();
  }
  FileSystem::Creation found{*entry, nullptr};
  if ((fi->flags & O_TRUNC) != 0) {
    const auto done = context.fs.set_attributes(entry->id, truncation_by(req));
    if (!done) {
      context.fs.take_back(*entry);
      return done.error();
    }
    found.entry.attr = *done;
  }
  return reply_create(context, req, found, fi);
}

void on_create(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode,
               fuse_file_info* fi) {
  serve(req, Op::Create, [&](FuseContext& context) -> Answer {
    const auto created =
        context.fs.create_node(parent, name, caller_of(req), (mode & 07777) | S_IFREG, 0, "");
    if (!created) {
      if (created.error().value() == EEXIST && (fi->flags & O_EXCL) == 0) {
        return open_existing(context, req, parent, name, fi);
      }
      return created.error();
    }
    return reply_create(context, req, *created, fi);
  });
}

#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
void on_tmpfile(fuse_req_t req, fuse_ino_t parent, mode_t mode, fuse_file_info* fi) {
  serve(req, Op::Tmpfile, [&](FuseContext& context) -> Answer {
    const auto created =
        context.fs.create_nameless(parent, caller_of(req), (mode & 07777) | S_IFREG);
    return created ? reply_create(context, req, *created, fi) : Answer(created.error());
  });
}
#endif

void on_flush(fuse_req_t req, fuse_ino_t /*ino*/, fuse_file_info* /*fi*/) {
  // Once for all: close(2) writes what the kernel gathered, and has nothing to ask.
  serve(req, Op::Flush, [&](FuseContext&) -> Answer { return Errno(ENOSYS); });
}

void on_read(fuse_req_t req, fuse_ino_t ino, std::size_t size, off_t offset,
             fuse_file_info* /*fi*/) {
  serve(req, Op::Read, [&](FuseContext& context) -> Answer {
    if (size > kMaxReadBytes) {
      return Errno(EINVAL);
    }
    const auto fd = context.fs.data(ino, Access::Read);
    if (!fd) {
      return fd.error();
    }
    char* const room = reply_room(size);
    const auto filled = sys::read_fully((*fd)->get(), room, size, offset);
    if (!filled) {
      return filled.error();
    }
    fuse_reply_buf(req, room, *filled);
    return {};
  });
}

void on_write(fuse_req_t req, fuse_ino_t ino, const char* data, std::size_t size, off_t offset,
              fuse_file_info* fi) {
  serve(req, Op::Write, [&](FuseContext& context) -> Answer {
    using From = FileSystem::WriteFrom;
    const From pages = context.settings.io == IoMode::Cached ? From::Cache : From::Pages;
    const From from = fi->writepage != 0 ? pages : From::Caller;
    const auto written = context.fs.write(ino, {data, size}, offset, from);
    if (!written) {
      return written.error();
    }
    // The set-id bits went with the SETATTR that the kernel sent before.
    fuse_reply_write(req, *written);
    return {};
  });
}

void on_fsync(fuse_req_t req, fuse_ino_t ino, int data_only, fuse_file_info* /*fi*/) {
  serve(req, Op::Fsync,
        [&](FuseContext& context) { return answer(context.fs.sync(ino, data_only != 0), req); });
}

void on_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
                  fuse_file_info* /*fi*/) {
  serve(req, Op::Fallocate, [&](FuseContext& context) -> Answer {
    const auto fd = context.fs.data(ino, Access::Write);
    if (!fd) {
      return fd.error();
    }
    const bool done = ::fallocate((*fd)->get(), mode, offset, length) == 0;
    return answer(done ? Status() : Status(Errno::last()), req);
  });
}

void on_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence, fuse_file_info* /*fi*/) {
  serve(req, Op::Lseek, [&](FuseContext& context) -> Answer {
    if (context.settings.io == IoMode::Cached && !context.fs.is_read_only()) {
      // The kernel asks without writing out what it has gathered (Linux 6.18,
      // fs/fuse/file.c: fuse_lseek), so a hole here may be data there. Told ENOSYS it
      // takes the whole file, whose size it knows, for data.
      return Errno(ENOSYS);
    }
    const auto fd = context.fs.data(ino, Access::Read);
    if (!fd) {
      return fd.error();
    }
    const off_t found = ::lseek((*fd)->get(), offset, whence);
    if (found < 0) {
      return Errno::last();
    }
    fuse_reply_lseek(req, found);
    return {};
  });
}

void on_copy_file_range(fuse_req_t req, fuse_ino_t from, off_t from_offset, fuse_file_info* /*fi*/,
                        fuse_ino_t to, off_t to_offset, fuse_file_info* /*to_fi*/, std::size_t size,
                        int /*flags*/) {
  serve(req, Op::CopyFileRange, [&](FuseContext& context) -> Answer {
    const auto out = context.fs.data(to, Access::Write);
    const auto in = context.fs.data(from, Access::Read);
    if (!in || !out) {
      return !out ? out.error() : in.error();
    }
    const auto n = sys::copy_range((*in)->get(), from_offset, (*out)->get(), to_offset, size);
    if (!n) {
      // The kernel copies by reading and writing when it is told so; ENOSYS would stop
      // it from ever asking again.
      const int error = n.error().value();
      return error == EXDEV || error == ENOSYS ? Errno(EOPNOTSUPP) : n.error();
    }
    fuse_reply_write(req, *n);
    return {};
  });
}

// The inode attribute ioctls, all that the kernel passes on for chattr(1) and lsattr(1)
// (fs/fuse/ioctl.c: fuse_fileattr_get, fuse_fileattr_set). The flag commands carry `long`
// in their number and an int in their data (ioctl_iflags(2)).
void on_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned command, void* /*arg*/,
              fuse_file_info* /*fi*/, unsigned flags, const void* in, std::size_t in_size,
              std::size_t out_size) {
  serve(req, Op::Ioctl, [&](FuseContext& context) -> Answer {
    const bool set = command == FS_IOC_SETFLAGS || command == FS_IOC_FSSETXATTR;
    const bool get =
        command == FS_IOC_GETFLAGS || command == FS_IOC_FSGETXATTR || command == FS_IOC_GETVERSION;
    const bool extended = command == FS_IOC_FSGETXATTR || command == FS_IOC_FSSETXATTR;
    if ((flags & FUSE_IOCTL_COMPAT) != 0 || (!get && !set)) {
      return Errno(ENOTTY);
    }
    union {
      int flags;
      struct fsxattr extended;
    } value{};
    const std::size_t size = extended ? sizeof(value.extended) : sizeof(value.flags);
    if (set) {
      if (in_size < size) {
        return Errno(EINVAL);
      }
      std::memcpy(&value, in, size);
    }
    const auto fd = context.fs.open_for_flags(ino, set ? Access::Write : Access::Read);
    if (!fd) {
      return fd.error();
    }
    if (::ioctl(fd->get(), command, &value) < 0) {
      return Errno::last();
    }
    if (set) {
      fuse_lowlevel_notify_inval_inode(context.session, ino, -1, 0);  // ctime
    }
    fuse_reply_ioctl(req, 0, get ? &value : nullptr, get ? std::min(out_size, size) : 0);
    return {};
  });
}

}  // namespace

void add_data_operations(fuse_lowlevel_ops& ops) {
  ops.open = on_open;
  ops.release = on_release;
  ops.create = on_create;
  ops.flush = on_flush;
  ops.read = on_read;
  ops.write = on_write;
  ops.fsync = on_fsync;
  ops.fallocate = on_fallocate;
  ops.lseek = on_lseek;
  ops.copy_file_range = on_copy_file_range;
  ops.ioctl = on_ioctl;
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
  ops.tmpfile = on_tmpfile;
#endif
}

}  // namespace layerfs
