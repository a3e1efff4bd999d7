#include "tools/oci/layer_writer.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>

#include "layers/identity.h"
#include "layers/object_compare.h"
#include "layers/path_text.h"
#include "layers/sys/syscalls.h"
#include "whiteout/marks.h"

namespace layerfs::oci {
namespace {

TarType type_of(mode_t mode) {
  switch (mode & S_IFMT) {
    case S_IFDIR:
      return TarType::Directory;
    case S_IFLNK:
      return TarType::Symlink;
    case S_IFCHR:
      return TarType::Character;
    case S_IFBLK:
      return TarType::Block;
    case S_IFIFO:
      return TarType::Fifo;
    default:
      return TarType::Regular;
  }
}

}  // namespace

ChangeOptions LayerWriter::walk_options(bool explicit_whiteouts) {
  ChangeOptions options;
  options.opaque = !explicit_whiteouts;
  // Readers remove what a whiteout names without asking which layer it is from.
  options.deletions_first = true;
  options.links = ChangeOptions::Links::Whole;
  return options;
}

bool LayerWriter::is_left_out(const std::string& path) const {
  for (std::size_t cut = path.rfind('/'); cut != std::string::npos && cut > 0;
       cut = path.rfind('/', cut - 1)) {
    if (std::binary_search(options_.without_content.begin(), options_.without_content.end(),
                           path.substr(0, cut))) {
      return true;
    }
  }
  return false;
}

Fallible<void> LayerWriter::add(const Change& change) {
  if (change.path.empty()) {
    // Readers ignore an entry for the root, so there is none.
    const ChangedParts& parts = change.parts;
    if (parts.mode || parts.owner || parts.xattrs) {
      return losses_.add("", "the root directory's own owner, mode and attributes");
    }
    return {};
  }
  if (!options_.without_content.empty() && is_left_out(change.path)) {
    return {};
  }
  if (change.kind == ChangeKind::Deleted) {
    return add_whiteout(change.path);
  }
  LFS_TRY(add_object(change.path, *change.now));
  if (change.replaces_directory) {
    return add_whiteout(change.path + "/" +
                        std::string(kOpaqueMarker.substr(kWhiteoutPrefix.size())));
  }
  return {};
}

Fallible<void> LayerWriter::add_whiteout(const std::string& path) {
  const std::size_t cut = path.rfind('/') + 1;  // 0 if there is none
  TarEntry entry;
  entry.path = path.substr(0, cut) + std::string(kWhiteoutPrefix) + path.substr(cut);
  return write_header(entry);
}

struct timespec LayerWriter::stored_time(const struct statx_timestamp& time) const {
  const LayerTimes& times = options_.times;
  if (times.exact) {
    return {*times.exact, 0};
  }
  if (times.latest && time.tv_sec >= *times.latest) {
    return {*times.latest, 0};
  }
  return {time.tv_sec, times.whole_seconds ? 0 : static_cast<long>(time.tv_nsec)};
}

Fallible<void> LayerWriter::add_object(const std::string& path, ViewObject& object) {
  const ViewEntry& source = object.entry();
  const Identity& identity = source.identity;
  if (S_ISSOCK(identity.mode)) {
    return losses_.add(path, "a socket");
  }
  if (identity.uid == options_.unmapped_uid || identity.gid == options_.unmapped_gid) {
    return Failure{"'/" + path +
                   "': its owner has no id in this user namespace; run in one that maps all ids "
                   "of the layer"};
  }
  TarEntry entry;
  entry.type = type_of(identity.mode);
  entry.path = path;
  entry.mode = entry.type == TarType::Symlink ? 0777 : identity.mode & kPermissions;
  entry.uid = identity.uid;
  entry.gid = identity.gid;
  entry.mtime = stored_time(source.st.stx_mtime);
  newest_ = std::max<std::int64_t>(newest_.value_or(entry.mtime.tv_sec), entry.mtime.tv_sec);
  if (source.may_be_linked()) {
    LFS_ASSIGN(auto first, first_name(source, path));
    if (first) {
      entry.type = TarType::HardLink;
      entry.link_target = std::move(*first);
      return write_header(entry);
    }
  }
  switch (entry.type) {
    case TarType::Symlink: {
      const auto target = object.link_target();
      if (!target) {
        return cannot_read(path, target.error());
      }
      entry.link_target = *target;
      break;
    }
    case TarType::Character:
    case TarType::Block:
      entry.device_major = major(identity.rdev);
      entry.device_minor = minor(identity.rdev);
      break;
    case TarType::Regular:
      entry.size = source.st.stx_size;
      break;
    default:
      break;
  }
  LFS_TRY(add_xattrs(path, object, entry));
  LFS_TRY(write_header(entry));
  return entry.size > 0 ? add_data(path, object) : Fallible<void>();
}

// Under which name the object is in the tar; nullopt: it is not yet, and will be as `path`.
Fallible<std::optional<std::string>> LayerWriter::first_name(const ViewEntry& source,
                                                             const std::string& path) {
  using Name = std::optional<std::string>;
  const SpillKey object = spill_key(source.link_key());
  LFS_ASSIGN(auto linked, linked_.find(object));
  if (!linked) {
    if (linked_.size() == 0) {
      first_names_.cut(0);
    }
    LFS_TRY(linked_.set(object, {first_names_.size(), static_cast<std::uint32_t>(path.size()), 1}));
    LFS_TRY(first_names_.append(path));
    return Name();
  }
  std::string first(linked->size, '\0');
  LFS_TRY(first_names_.read(linked->at, first.data(), first.size()));
  if (++linked->names == source.st.stx_nlink && source.links_are_all_names) {
    LFS_TRY(linked_.erase(object));
  } else {
    LFS_TRY(linked_.set(object, *linked));
  }
  return Name(std::move(first));
}

Fallible<void> LayerWriter::add_xattrs(const std::string& path, ViewObject& object,
                                       TarEntry& entry) {
  const auto xattrs = object.xattrs();
  if (!xattrs) {
    return cannot_read(path, xattrs.error());
  }
  for (const auto& [name, value] : **xattrs) {
    if (is_portable_xattr(name, value)) {
      entry.xattrs.emplace_back(name, value);
    } else {
      LFS_TRY(
          losses_.add(path, "its attribute " + name + (value.empty() ? ", which is empty" : "")));
    }
  }
  return {};
}

Fallible<void> LayerWriter::add_data(const std::string& path, ViewObject& object) {
  const auto fd = object.data();
  if (!fd) {
    return cannot_read(path, fd.error());
  }
  struct statx before = object.entry().st;
  if (!object.has_own_data()) {
    const auto st = sys::stat_at({*fd});
    if (!st) {
      return cannot_read(path, st.error());
    }
    before = *st;
  }
  const std::uint64_t size = object.entry().st.stx_size;
  std::uint64_t offset = 0;
  while (offset < size) {
    LFS_ASSIGN(const BlockSink::Space space, to_.space());
    const std::size_t want =
        static_cast<std::size_t>(std::min<std::uint64_t>(space.size, size - offset));
    const auto have = sys::read_fully(*fd, space.data, want, static_cast<off_t>(offset));
    if (!have) {
      return cannot_read(path, have.error());
    }
    if (*have < want) {
      return Failure{"'/" + path + "' became shorter while it was read; " +
                     "commit the mount point, or stop who writes"};
    }
    LFS_TRY(to_.filled(want));
    offset += want;
    if (options_.progress) {
      LFS_TRY(options_.progress(want));
    }
  }
  const auto after = sys::stat_at({*fd});
  if (!after) {
    return cannot_read(path, after.error());
  }
  if (!is_unchanged(before, *after)) {
    return Failure{"'/" + path + "' changed while it was read; " +
                   "commit the mount point, or stop who writes"};
  }
  return to_.write_zeros(tar_padding(size));
}

Fallible<void> LayerWriter::write_header(const TarEntry& entry) {
  ++entries_;
  if (options_.progress) {
    LFS_TRY(options_.progress(0));
  }
  return to_.write(encode_tar_header(entry));
}

Fallible<void> LayerWriter::finish() { return to_.write_zeros(kTarTrailerBytes); }

}  // namespace layerfs::oci
