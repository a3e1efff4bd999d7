#include "whiteout/convert.h"

#include <fcntl.h>
#include <sys/sysmacros.h>

#include <string>
#include <vector>

#include "layers/sys/bulk.h"

namespace layerfs {
namespace {

struct Found {
  std::vector<std::string> devices;  // names hidden by a device
  std::vector<std::string> dot_wh;   // ... by a file .wh.NAME
  std::vector<std::string> by_xattr;
  bool marker = false;
  bool temporary = false;
};

Result<Found> find_whiteouts(int dir, bool may_be_by_xattr) {
  Found found;
  LFS_TRY(sys::for_each_entry(dir, [&](const sys::DirEntry& entry) -> Status {
    const std::string name(entry.name);
    if (name == kOpaqueMarker) {
      found.marker = true;
    } else if (name == kConvertTemporary) {
      found.temporary = true;
    } else if (is_reserved_name(name)) {
      const std::string hidden = name.substr(kWhiteoutPrefix.size());
      if (!is_reserved_name(hidden)) {
        found.dot_wh.push_back(hidden);
      }
    } else {
      LFS_ASSIGN(const struct statx st, sys::stat_at({dir, name.c_str()}));
      if (is_whiteout_device(st)) {
        found.devices.push_back(name);
      } else if (may_be_by_xattr && S_ISREG(st.stx_mode) && st.stx_size == 0) {
        LFS_ASSIGN(const bool hides, is_whiteout_by_xattr({dir, name.c_str()}));
        if (hides) {
          found.by_xattr.push_back(name);
        }
      }
    }
    return {};
  }));
  return found;
}

Status unlink_file(int dir, const std::string& name) {
  return sys::unlink_at({dir, name.c_str()}, sys::UnlinkKind::File);
}

Status to_dot_wh(int dir, const std::string& name, const MarkWriter& writer) {
  const auto made = writer.make_whiteout(dir, name);
  if (!made && made.error().value() != EEXIST) {
    return made.error();
  }
  return unlink_file(dir, name);
}

// Of a file .wh.NAME.
Status to_device(int dir, const std::string& name, const MarkWriter& writer) {
  LFS_ASSIGN(const auto there, sys::try_stat_at({dir, name.c_str()}));
  if (!there) {
    LFS_TRY(writer.make_whiteout(dir, name));
  } else if (S_ISDIR(there->stx_mode)) {
    // The layer's own object hides what is below, a directory only if it says so.
    LFS_TRY(writer.set_opaque({dir, name.c_str()}));
  }
  return unlink_file(dir, std::string(kWhiteoutPrefix) + name);
}

Status replace_by_device(int dir, const std::string& name) {
  LFS_TRY(sys::mknod_at({dir, kConvertTemporary}, S_IFCHR, makedev(0, 0)));
  return sys::rename_at({dir, kConvertTemporary}, {dir, name.c_str()});
}

// Returns whether there was one.
Result<bool> remove_opaque_xattrs(int dir) {
  bool found = false;
  for (const char* name :
       {"trusted.overlay.opaque", "user.overlay.opaque", "user.fuseoverlayfs.opaque"}) {
    LFS_ASSIGN(const auto value, sys::get_xattr({dir}, name));
    if (value) {
      LFS_TRY(sys::remove_xattr({dir}, name));
      found = true;
    }
  }
  return found;
}

}  // namespace

Result<std::size_t> convert_directory_marks(int dir, const MarkWriter& writer) {
  LFS_ASSIGN(const DirMarks marks, read_dir_marks({dir}));
  LFS_ASSIGN(const Found found, find_whiteouts(dir, marks.opaque == Opaque::Whiteouts));
  LFS_ASSIGN(const sys::KeptTimes times, sys::KeptTimes::of(dir));
  const bool devices = writer.form() == WhiteoutForm::Overlay;
  std::size_t changed = found.by_xattr.size();
  if (found.temporary) {
    LFS_TRY(sys::remove_tree({dir, kConvertTemporary}));
    ++changed;
  }
  for (const std::string& name : found.by_xattr) {
    LFS_TRY(devices ? replace_by_device(dir, name) : to_dot_wh(dir, name, writer));
  }
  for (const std::string& name : devices ? found.dot_wh : found.devices) {
    LFS_TRY(devices ? to_device(dir, name, writer) : to_dot_wh(dir, name, writer));
    ++changed;
  }
  const bool by_xattr = devices && writer.has_xattrs();
  if (marks.opaque == Opaque::Yes && by_xattr && found.marker) {
    LFS_TRY(writer.set_opaque({dir}));
    LFS_TRY(unlink_file(dir, std::string(kOpaqueMarker)));
    ++changed;
  } else if (marks.opaque == Opaque::Yes && !by_xattr) {
    if (!found.marker) {
      LFS_TRY(writer.set_opaque({dir}));
    }
    LFS_ASSIGN(const bool had_xattr, remove_opaque_xattrs(dir));
    changed += had_xattr ? 1 : 0;
  } else if (marks.opaque == Opaque::Whiteouts) {
    LFS_TRY(remove_opaque_xattrs(dir));
  }
  if (changed > 0) {
    LFS_TRY(times.restore());
  }
  return changed;
}

}  // namespace layerfs
