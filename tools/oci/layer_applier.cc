#include "tools/oci/layer_applier.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <limits>

#include "layers/acl.h"
#include "layers/identity.h"
#include "layers/merged_view.h"
#include "layers/path_text.h"
#include "layers/shown_xattrs.h"
#include "layers/sys/syscalls.h"
#include "tools/oci/zeros.h"

namespace layerfs::oci {
namespace {

// No filesystem operation takes a longer one in one piece.
constexpr std::size_t kMostPathBytes = 32 * 1024;
// As deep as a path can be that anybody names in one piece (PATH_MAX).
constexpr std::size_t kMostLevels = 2048;
// Names that aufs keeps for itself, of no meaning to others; but the opaque marker is one.
const std::string kForeignPrefix = std::string(kWhiteoutPrefix) + std::string(kWhiteoutPrefix);
// Linux' dev_t (include/linux/kdev_t.h).
constexpr std::int64_t kMaxMajor = 0xfff;
constexpr std::int64_t kMaxMinor = 0xfffff;
// 1 MiB: of 10^6 whiteouts, one path in 20 is looked for in vain.
constexpr std::size_t kFilterBits = std::size_t{1} << 23U;

Failure refused(const std::string& path, const std::string& why) {
  return {"'" + path + "' " + why + "; the layer is not unpacked"};
}

Failure cannot(const std::string& path, const std::string& what, Errno error) {
  if (error.value() == EEXIST) {
    return refused(path, "occurs twice");
  }
  if (error.value() == ELOOP || error.value() == EXDEV || error.value() == ENOTDIR) {
    return refused(path, "leads through something that is no directory of this layer");
  }
  return {"'" + path + "': cannot " + what + ": " + describe(error)};
}

// "" is above all.
bool is_at_or_above(const std::string& above, const std::string& path) {
  return path.starts_with(above) &&
         (above.empty() || path.size() == above.size() || path[above.size()] == '/');
}

std::array<std::size_t, 2> filter_bits(const std::string& path) {
  const XXH64_hash_t hash = XXH3_64bits(path.data(), path.size());
  return {hash % kFilterBits, (hash >> 32U) % kFilterBits};
}

}  // namespace

Fallible<LayerApplier::Place> LayerApplier::place_of(const std::string& text,
                                                     const std::string& shown) {
  if (text.empty() || text.starts_with('/')) {
    return refused(shown, text.empty() ? "has no name" : "is an absolute path");
  }
  if (text.size() > kMostPathBytes) {
    return refused(shown.substr(0, 64) + "...", "is too long a path");
  }
  Place place;
  std::size_t levels = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('/', at), text.size());
    const std::string_view part = std::string_view(text).substr(at, end - at);
    at = end + 1;
    if (part.empty() || part == ".") {
      continue;
    }
    if (part == "..") {
      return refused(shown, "leads up by '..'");
    }
    if (part.size() > kMaxNameBytes) {
      return refused(shown, "has a name of more than 255 bytes");
    }
    if (++levels > kMostLevels) {
      return refused(shown.substr(0, 64) + "...", "is too deep");
    }
    place.is_foreign =
        place.is_foreign || (part.starts_with(kForeignPrefix) && part != kOpaqueMarker);
    if (!place.is_foreign && is_reserved_name(place.name)) {
      return refused(shown, "is below a whiteout");
    }
    place.dir = place.path;
    place.name = std::string(part);
    place.path = join(place.dir, part);
  }
  return place;
}

LayerApplier::Attributes LayerApplier::of_directory(const DirectoryAttributes& directory) {
  return {directory.uid,   directory.gid,   S_IFDIR | directory.mode, 0,
          directory.mtime, directory.xattrs};
}

Fallible<LayerApplier::Attributes> LayerApplier::attributes_of(const TarItem& item) {
  const auto is_id = [](std::int64_t id) {
    return id >= 0 && id < std::numeric_limits<std::uint32_t>::max();
  };
  if (!is_id(item.uid) || !is_id(item.gid)) {
    return refused(item.path, "has an owner that is no id");
  }
  Attributes out{static_cast<std::uint32_t>(item.uid),
                 static_cast<std::uint32_t>(item.gid),
                 item.mode,
                 0,
                 item.mtime,
                 item.xattrs};
  if (S_ISCHR(item.mode) || S_ISBLK(item.mode)) {
    const bool fits = item.device_major >= 0 && item.device_major <= kMaxMajor &&
                      item.device_minor >= 0 && item.device_minor <= kMaxMinor;
    if (!fits) {
      return refused(item.path, "is a device with an impossible number");
    }
    out.rdev =
        makedev(static_cast<unsigned>(item.device_major), static_cast<unsigned>(item.device_minor));
    if (S_ISCHR(item.mode) && out.rdev == 0) {
      return refused(item.path, "is a character device 0:0, which would hide what is below");
    }
  }
  return out;
}

Fallible<void> LayerApplier::add(const TarItem& item, TarReader& reader) {
  LFS_TRY(count(item.path));
  LFS_ASSIGN(const Place place, place_of(item.path, item.path));
  if (place.is_foreign) {
    return {};
  }
  if (is_reserved_name(place.name)) {
    return add_whiteout(place, item);
  }
  if (place.path.empty() && (!S_ISDIR(item.mode) || item.hard_link)) {
    return refused(item.path, "is the root and no directory");
  }
  if (item.hard_link) {
    return add_hard_link(place, *item.hard_link);
  }
  LFS_ASSIGN(Attributes attributes, attributes_of(item));
  switch (item.mode & S_IFMT) {
    case S_IFDIR:
      return add_directory(place, std::move(attributes));
    case S_IFREG:
      return add_file(place, attributes, item, reader);
    case S_IFLNK:
    case S_IFCHR:
    case S_IFBLK:
    case S_IFIFO:
      return add_special(place, attributes, item.symlink);
    default:
      return refused(item.path, "is of a type that a layer cannot have");
  }
}

Fallible<void> LayerApplier::count(const std::string& path) {
  return ++entries_ <= options_.limits.entries
             ? Fallible<void>()
             : refused(path, "is more than the " + std::to_string(options_.limits.entries) +
                                 " entries that are allowed");
}

Fallible<int> LayerApplier::open_directory(const std::string& path, const std::string& shown) {
  LFS_TRY(leave_for(path));
  if (open_fd_ && open_path_ == path) {
    return open_fd_.get();
  }
  auto fd = sys::open_beneath(root_, path, O_PATH | O_DIRECTORY);
  // A whiteout may be where a directory is to come.
  const bool may_be_made = !fd && (fd.error().value() == ENOENT ||
                                   (fd.error().value() == ENOTDIR && !whiteouts_.empty()));
  if (!fd && !may_be_made) {
    return cannot(shown, "open its directory", fd.error());
  }
  if (fd) {
    LFS_TRY(enter(path, fd->get()));
    open_fd_ = std::move(*fd);
  } else {
    LFS_ASSIGN(open_fd_, make_directories(path, shown));
  }
  open_path_ = path;
  return open_fd_.get();
}

Fallible<UniqueFd> LayerApplier::make_directories(const std::string& path,
                                                  const std::string& shown) {
  auto now = sys::open_beneath(root_, "", O_PATH | O_DIRECTORY);
  std::string above;
  for (std::size_t at = 0; now && at < path.size();) {
    const std::size_t end = std::min(path.find('/', at), path.size());
    const std::string name = path.substr(at, end - at);
    const std::string whole = path.substr(0, end);
    at = end + 1;
    const sys::At here{now->get(), name.c_str()};
    auto next = sys::open_at(here, O_PATH | O_DIRECTORY);
    if (!next && (next.error().value() == ENOENT || may_be_whiteout(whole))) {
      LFS_TRY(enter(above, now->get()));
      LFS_ASSIGN(const bool replaces, replace_whiteout(now->get(), name, whole));
      if (!replaces && next.error().value() != ENOENT) {
        return cannot(shown, "make its directory", next.error());
      }
      LFS_TRY(count(shown));
      auto made = sys::mkdir_at(here, 0700);
      if (made && replaces) {
        made = options_.marks.set_opaque(here);
      }
      if (!made) {
        return cannot(shown, "make its directory", made.error());
      }
      LFS_TRY(implied_.add(whole));
      next = sys::open_at(here, O_PATH | O_DIRECTORY);
    }
    above = whole;
    now = std::move(next);
  }
  if (!now) {
    return cannot(shown, "make its directory", now.error());
  }
  return std::move(*now);
}

Fallible<void> LayerApplier::leave_for(const std::string& path) {
  while (!open_.empty() && !is_at_or_above(open_.back().path, path)) {
    const OpenDirectory left = std::move(open_.back());
    open_.pop_back();
    LFS_TRY(leave(left));
  }
  return {};
}

Fallible<void> LayerApplier::leave(const OpenDirectory& directory) {
  const auto fd = sys::open_beneath(root_, directory.path, O_PATH | O_DIRECTORY);
  if (!fd) {
    return cannot(directory.path, "open it", fd.error());
  }
  const sys::At at{fd->get()};
  if (directory.attributes) {
    return set_attributes(at, directory.path, *directory.attributes);
  }
  Status done;
  if (!directory.default_acl.empty()) {
    done = sys::set_xattr(at, kAclDefaultXattr, directory.default_acl);
  }
  if (done) {
    done = sys::utimens_at(at, directory.times);
  }
  return done ? Fallible<void>() : cannot(directory.path, "restore its attributes", done.error());
}

Fallible<void> LayerApplier::enter(const std::string& path, int fd) {
  if (path.empty() || (!open_.empty() && open_.back().path == path)) {
    return {};
  }
  // They get theirs at the end, as the root does.
  LFS_ASSIGN(const bool is_implied, implied_.contains(path));
  if (is_implied) {
    return {};
  }
  const auto st = sys::stat_at({fd});
  auto acl =
      st ? sys::get_xattr({fd}, kAclDefaultXattr) : Result<std::optional<std::string>>(st.error());
  if (acl && *acl) {
    if (const auto removed = sys::remove_xattr({fd}, kAclDefaultXattr); !removed) {
      acl = removed.error();
    }
  }
  if (!acl) {
    return cannot(path, "read its attributes", acl.error());
  }
  OpenDirectory entered{path, std::nullopt, {}, acl->value_or("")};
  entered.times[0] = {st->stx_atime.tv_sec, st->stx_atime.tv_nsec};
  entered.times[1] = {st->stx_mtime.tv_sec, st->stx_mtime.tv_nsec};
  open_.push_back(std::move(entered));
  return {};
}

void LayerApplier::note_whiteout(const std::string& path) {
  whiteouts_.resize(kFilterBits);
  for (const std::size_t bit : filter_bits(path)) {
    whiteouts_[bit] = true;
  }
}

bool LayerApplier::may_be_whiteout(const std::string& path) const {
  const auto bits = filter_bits(path);
  return !whiteouts_.empty() && whiteouts_[bits[0]] && whiteouts_[bits[1]];
}

Fallible<bool> LayerApplier::replace_whiteout(const Place& place) {
  if (!may_be_whiteout(place.path)) {
    return false;
  }
  LFS_ASSIGN(const int dir, open_directory(place.dir, place.path));
  return replace_whiteout(dir, place.name, place.path);
}

Fallible<bool> LayerApplier::replace_whiteout(int dir, const std::string& name,
                                              const std::string& path) {
  if (!may_be_whiteout(path)) {
    return false;
  }
  const bool is_file = options_.marks.form() == WhiteoutForm::DotWh;
  const std::string whiteout = (is_file ? std::string(kWhiteoutPrefix) : std::string()) + name;
  const auto there = sys::try_stat_at({dir, whiteout.c_str()});
  if (!there) {
    return cannot(path, "look for its whiteout", there.error());
  }
  if (!*there || (!is_file && !is_whiteout_device(**there))) {
    return false;
  }
  if (const auto removed = options_.marks.remove_whiteout(dir, name); !removed) {
    return cannot(path, "replace its whiteout", removed.error());
  }
  return true;
}

Fallible<void> LayerApplier::add_whiteout(const Place& place, const TarItem& item) {
  const std::string& name = place.name;
  if (!S_ISREG(item.mode) || item.hard_link) {
    return refused(item.path, "has the name of a whiteout and is no file");
  }
  if (name == kOpaqueMarker) {
    LFS_ASSIGN(const int dir, open_directory(place.dir, item.path));
    const auto set = options_.marks.set_opaque({dir});
    if (!set && set.error().value() != EEXIST) {
      return cannot(item.path, "mark its directory", set.error());
    }
    return {};
  }
  const std::string hidden = name.substr(kWhiteoutPrefix.size());
  if (!is_valid_component(hidden)) {
    return refused(item.path, "is a whiteout of no name");
  }
  LFS_ASSIGN(const int dir, open_directory(place.dir, item.path));
  const std::string path = join(place.dir, hidden);
  const auto there = sys::try_stat_at({dir, hidden.c_str()});
  if (!there) {
    return cannot(item.path, "look for what it hides", there.error());
  }
  Status done;
  if (!*there || is_whiteout_device(**there)) {
    note_whiteout(path);
    done = options_.marks.make_whiteout(dir, hidden);
  } else if (S_ISDIR((*there)->stx_mode)) {
    // It is for the layers below; this layer's own object stays, and hides them itself
    // unless it is a directory.
    LFS_ASSIGN(const int own, open_directory(path, item.path));
    done = options_.marks.set_opaque({own});
  }
  return done ? Fallible<void>() : cannot(item.path, "make the whiteout", done.error());
}

Fallible<void> LayerApplier::add_directory(const Place& place, Attributes attributes) {
  if (place.path.empty()) {
    if (root_attributes_) {
      return refused("/", "occurs twice");
    }
    root_attributes_ = std::move(attributes);
    return {};
  }
  LFS_ASSIGN(const bool replaces, replace_whiteout(place));
  LFS_ASSIGN(const int dir, open_directory(place.dir, place.path));
  const sys::At at{dir, place.name.c_str()};
  const auto made = sys::mkdir_at(at, 0700);
  bool was_implied = false;
  if (!made && made.error().value() == EEXIST) {
    LFS_ASSIGN(was_implied, implied_.remove(place.path));
  }
  if (!made && !was_implied) {
    return cannot(place.path, "make it", made.error());
  }
  if (replaces) {
    if (const auto set = options_.marks.set_opaque(at); !set) {
      return cannot(place.path, "mark it", set.error());
    }
  }
  open_.push_back({place.path, std::move(attributes), {}, {}});
  return {};
}

Fallible<void> LayerApplier::add_hard_link(const Place& place, const std::string& target) {
  LFS_ASSIGN(const Place to, place_of(target, place.path));
  if (is_reserved_name(to.name) || to.path.empty()) {
    return refused(place.path, "is a hard link to '" + target + "', which is no file");
  }
  LFS_TRY(replace_whiteout(place));
  LFS_ASSIGN(const int dir, open_directory(place.dir, place.path));
  auto from = sys::open_beneath(root_, to.dir, O_PATH | O_DIRECTORY);
  const auto there = from ? sys::try_stat_at({from->get(), to.name.c_str()})
                          : Result<std::optional<struct statx>>(from.error());
  const bool missing = there ? !there->has_value() : there.error().value() == ENOENT;
  if (missing) {
    return refused(place.path,
                   "is a hard link to '" + target + "', which is not before it in this layer");
  }
  if (!there) {
    return cannot(place.path, "open what it links to", there.error());
  }
  if (S_ISDIR((*there)->stx_mode) || is_whiteout_device(**there)) {
    return refused(place.path, "is a hard link to '" + target + "', which is no file");
  }
  const auto linked = sys::link_at({from->get(), to.name.c_str()}, {dir, place.name.c_str()});
  return linked ? Fallible<void>() : cannot(place.path, "link it", linked.error());
}

Fallible<void> LayerApplier::add_file(const Place& place, const Attributes& attributes,
                                      const TarItem& item, TarReader& reader) {
  const std::uint64_t left = options_.limits.bytes - bytes_;
  if (item.size < 0 || static_cast<std::uint64_t>(item.size) > left) {
    return refused(place.path, "has " + std::to_string(item.size) +
                                   " bytes, with which the layer exceeds the limit of " +
                                   std::to_string(options_.limits.bytes) + " (--limit)");
  }
  bytes_ += static_cast<std::uint64_t>(item.size);
  LFS_TRY(replace_whiteout(place));
  LFS_ASSIGN(const int dir, open_directory(place.dir, place.path));
  const auto fd =
      sys::open_at({dir, place.name.c_str()}, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
  if (!fd) {
    return cannot(place.path, "make it", fd.error());
  }
  LFS_TRY(write_data(fd->get(), item, reader));
  return set_attributes({fd->get()}, place.path, attributes);
}

Fallible<void> LayerApplier::write_data(int fd, const TarItem& item, TarReader& reader) {
  const auto size = static_cast<std::uint64_t>(item.size);
  std::uint64_t end = 0;  // of what is written
  for (;;) {
    LFS_ASSIGN(const auto data, reader.data());
    if (!data) {
      break;
    }
    if (data->offset > size || data->bytes.size() > size - data->offset) {
      return refused(item.path, "has more bytes than it says");
    }
    const auto written = write_without_holes(fd, data->bytes, data->offset);
    if (!written) {
      return cannot(item.path, "write it", written.error());
    }
    end = std::max(end, *written);
  }
  if (end < size) {
    if (const auto cut = sys::truncate_fd(fd, static_cast<off_t>(size)); !cut) {
      return cannot(item.path, "write it", cut.error());
    }
  }
  return {};
}

Fallible<void> LayerApplier::add_special(const Place& place, const Attributes& attributes,
                                         const std::string& symlink) {
  LFS_TRY(replace_whiteout(place));
  LFS_ASSIGN(const int dir, open_directory(place.dir, place.path));
  const sys::At at{dir, place.name.c_str()};
  Status made;
  if (S_ISLNK(attributes.mode)) {
    if (symlink.empty() || symlink.size() >= PATH_MAX) {
      return refused(place.path, "is a symlink whose target is empty or too long");
    }
    made = sys::symlink_at(symlink, at);
  } else if (options_.override_stat) {
    made = sys::mknod_at(at, S_IFREG | 0600, 0);
  } else {
    made = sys::mknod_at(at, (attributes.mode & S_IFMT) | 0600, attributes.rdev);
    if (!made && is_not_permitted(made.error())) {
      return Failure{"'" + place.path +
                     "': a device cannot be made here; unpack as root or with --override-stat on"};
    }
  }
  if (!made) {
    return cannot(place.path, "make it", made.error());
  }
  return set_attributes(at, place.path, attributes);
}

// Changing the owner drops set-id bits and capabilities, and an access ACL changes the mode:
// owner, attributes, mode; times after everything.
Fallible<void> LayerApplier::set_attributes(sys::At at, const std::string& path,
                                            const Attributes& attributes) {
  const mode_t mode = attributes.mode;
  const bool is_link = S_ISLNK(mode);
  Status done;
  if (!options_.override_stat) {
    done = sys::chown_at(at, attributes.uid, attributes.gid);
    if (!done && (is_not_permitted(done.error()) || done.error().value() == EINVAL)) {
      return Failure{"'" + path + "': cannot give it to " + std::to_string(attributes.uid) + ":" +
                     std::to_string(attributes.gid) + ": " + describe(done.error()) +
                     "; unpack as root, or with --override-stat on"};
    }
  } else if (!is_link) {
    done = sys::set_xattr(
        at, override_stat_xattr(OverrideForm::Containers),
        format_override_stat(OverrideStat{attributes.uid, attributes.gid, mode, attributes.rdev}));
  }
  if (!done) {
    return cannot(path, "set its owner", done.error());
  }
  LFS_TRY(set_xattrs(at, path, attributes));
  if (!is_link) {
    const auto set =
        sys::chmod_at(at, options_.override_stat ? usable_mode(mode) : mode & kPermissions);
    if (!set) {
      return cannot(path, "set its mode", set.error());
    }
  }
  const struct timespec times[2] = {attributes.mtime, attributes.mtime};
  if (const auto set = sys::utimens_at(at, times); !set) {
    return cannot(path, "set its time", set.error());
  }
  return {};
}

Fallible<void> LayerApplier::set_xattrs(sys::At at, const std::string& path,
                                        const Attributes& attributes) {
  for (const auto& [name, text] : attributes.xattrs) {
    if (is_internal_xattr(name)) {
      LFS_TRY(losses_.add(path, "its attribute " + name + ", which would be a mark of the layer"));
      continue;
    }
    if (!is_image_xattr(name)) {
      continue;  // of the machine where the layer was made
    }
    std::string value = without_capability_rootid(name, text);
    if (options_.override_stat && name == kAclAccessXattr) {
      auto usable = acl_with_mode(value, usable_mode(attributes.mode));
      if (!usable) {
        return refused(path, "has an access ACL that is none");
      }
      value = std::move(*usable);
    }
    const auto form = options_.override_stat ? OverrideForm::Containers : OverrideForm::None;
    const auto set = set_shown_xattr(at, form, name, value);
    if (set) {
      continue;
    }
    if (!is_not_permitted(set.error()) && !is_unsupported(set.error())) {
      return cannot(path, "set its attribute " + name, set.error());
    }
    LFS_TRY(losses_.add(path, "its attribute " + name + ": " + describe(set.error())));
  }
  return {};
}

void LayerApplier::set_root(const DirectoryAttributes& attributes) {
  root_attributes_ = of_directory(attributes);
}

Fallible<void> LayerApplier::finish() {
  open_fd_.reset();
  while (!open_.empty()) {
    LFS_TRY(leave(open_.back()));
    open_.pop_back();
  }
  // What is inside before the directory, which may then be closed to us.
  LFS_TRY(implied_.for_each([this](const std::string& path) -> Fallible<void> {
    DirectoryAttributes attributes{0, 0, 0755, {}, {}};
    if (options_.directory_below) {
      LFS_ASSIGN(const auto below, options_.directory_below(path));
      attributes = below.value_or(attributes);
    }
    return leave({path, of_directory(attributes), {}, {}});
  }));
  return leave({"", root_attributes_.value_or(of_directory({0, 0, 0755, {}, {}})), {}, {}});
}

}  // namespace layerfs::oci
