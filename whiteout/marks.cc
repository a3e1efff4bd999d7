#include "whiteout/marks.h"

#include <fcntl.h>
#include <sys/sysmacros.h>

#include <array>
#include <charconv>
#include <cinttypes>
#include <cstdio>

namespace layerfs {
namespace {

constexpr std::string_view kTrustedPrefix = "trusted.overlay.";
constexpr std::string_view kUserPrefix = "user.overlay.";
constexpr std::string_view kFuseOverlayfsPrefix = "user.fuseoverlayfs.";
constexpr std::string_view kFuseOverlayfsSecurityPrefix = "security.fuseoverlayfs.";
constexpr std::string_view kContainersPrefix = "user.containers.override_";
constexpr std::string_view kOriginSuffix = "layerfs.origin";

// The part after an overlay prefix, or nullopt.
std::optional<std::string_view> overlay_suffix(std::string_view name) {
  for (const std::string_view prefix : {kTrustedPrefix, kUserPrefix}) {
    if (name.starts_with(prefix)) {
      return name.substr(prefix.size());
    }
  }
  return std::nullopt;
}

// One value that the list just named; gone since is an error of the layer, since
// nobody else may change it.
Result<std::string> get_listed(sys::At at, const std::string& name) {
  LFS_ASSIGN(auto value, sys::get_xattr(at, name.c_str()));
  if (!value) {
    return Errno(EIO);
  }
  return std::move(*value);
}

// "v1 FSID LOWER_INO OWN_INO", numbers in hexadecimal.
std::string format_origin(Origin origin, std::uint64_t own_ino) {
  std::array<char, 80> text{};
  std::snprintf(text.data(), text.size(), "v1 %" PRIx64 " %" PRIx64 " %" PRIx64, origin.fsid,
                origin.ino, own_ino);
  return text.data();
}

// A value of another version or of another inode tells nothing, which only costs a
// stable inode number: it hides no name.
std::optional<Origin> parse_origin(std::string_view text, std::uint64_t own_ino) {
  constexpr std::string_view kVersion = "v1 ";
  if (!text.starts_with(kVersion)) {
    return std::nullopt;
  }
  const char* at = text.data() + kVersion.size();
  const char* const end = text.data() + text.size();
  std::array<std::uint64_t, 3> numbers{};
  for (std::uint64_t& number : numbers) {
    if (at < end && *at == ' ') {
      ++at;
    }
    const auto [rest, error] = std::from_chars(at, end, number, 16);
    if (error != std::errc()) {
      return std::nullopt;
    }
    at = rest;
  }
  if (at != end || numbers[2] != own_ino) {
    return std::nullopt;
  }
  return Origin{numbers[0], numbers[1]};
}

std::string dot_wh_name(std::string_view name) { return std::string(kWhiteoutPrefix).append(name); }

}  // namespace

bool is_reserved_name(std::string_view name) { return name.starts_with(kWhiteoutPrefix); }

bool is_internal_xattr(std::string_view name) {
  return name.starts_with(kTrustedPrefix) || name.starts_with(kUserPrefix) ||
         name.starts_with(kFuseOverlayfsPrefix) || name.starts_with(kFuseOverlayfsSecurityPrefix) ||
         name.starts_with(kContainersPrefix);
}

bool is_whiteout_device(const struct statx& st) {
  return S_ISCHR(st.stx_mode) && st.stx_rdev_major == 0 && st.stx_rdev_minor == 0;
}

Result<DirMarks> read_dir_marks(sys::At dir) {
  DirMarks marks;
  LFS_ASSIGN(const auto names, sys::list_xattrs(dir));
  for (const std::string& name : names) {
    const bool fuse_overlayfs_opaque = name == "user.fuseoverlayfs.opaque";
    const auto suffix = overlay_suffix(name);
    if (suffix == "opaque" || fuse_overlayfs_opaque) {
      LFS_ASSIGN(const std::string value, get_listed(dir, name));
      if (!value.empty() && value.front() == 'y') {
        marks.opaque = Opaque::Yes;
      } else if (value == "x" && marks.opaque == Opaque::No) {
        marks.opaque = Opaque::Whiteouts;
      }
    } else if (suffix == "redirect") {
      LFS_ASSIGN(marks.redirect, get_listed(dir, name));
    } else if (suffix == "impure") {
      marks.impure = true;
    }
  }
  if (marks.opaque != Opaque::Yes) {
    UniqueFd reopened;
    int fd = dir.dir;
    if (!dir.is_self()) {
      LFS_ASSIGN(reopened, sys::open_at(dir, O_PATH | O_DIRECTORY));
      fd = reopened.get();
    }
    LFS_ASSIGN(const auto marker, sys::try_stat_at({fd, kOpaqueMarker.data()}));
    if (marker) {
      marks.opaque = Opaque::Yes;
    }
  }
  return marks;
}

Result<FileMarks> read_file_marks(sys::At file, std::uint64_t own_ino) {
  FileMarks marks;
  LFS_ASSIGN(const auto names, sys::list_xattrs(file));
  for (const std::string& name : names) {
    const auto suffix = overlay_suffix(name);
    if (suffix == "metacopy") {
      marks.metacopy = true;
    } else if (suffix == "redirect") {
      LFS_ASSIGN(marks.redirect, get_listed(file, name));
    } else if (suffix == "nlink") {
      LFS_ASSIGN(marks.nlink, get_listed(file, name));
    } else if (suffix == kOriginSuffix) {
      LFS_ASSIGN(const std::string value, get_listed(file, name));
      marks.origin = parse_origin(value, own_ino);
    }
  }
  return marks;
}

Result<bool> is_whiteout_by_xattr(sys::At at) {
  for (const char* name : {"trusted.overlay.whiteout", "user.overlay.whiteout"}) {
    LFS_ASSIGN(const auto value, sys::get_xattr(at, name));
    if (value) {
      return true;
    }
  }
  return false;
}

std::string MarkWriter::xattr_name(std::string_view suffix) const {
  return std::string(namespace_ == XattrNamespace::Trusted ? kTrustedPrefix : kUserPrefix)
      .append(suffix);
}

Status MarkWriter::make_whiteout(int dir, std::string_view name) const {
  if (form_ == WhiteoutForm::Overlay) {
    return sys::mknod_at({dir, std::string(name).c_str()}, S_IFCHR, makedev(0, 0));
  }
  return sys::mknod_at({dir, dot_wh_name(name).c_str()}, S_IFREG | 0644, 0);
}

Status MarkWriter::remove_whiteout(int dir, std::string_view name) const {
  // The layer may have been written in the other form before; remove either.
  const std::string plain(name);
  LFS_ASSIGN(const auto st, sys::try_stat_at({dir, plain.c_str()}));
  if (st && is_whiteout_device(*st)) {
    LFS_TRY(sys::unlink_at({dir, plain.c_str()}, sys::UnlinkKind::File));
  }
  const auto removed = sys::unlink_at({dir, dot_wh_name(name).c_str()}, sys::UnlinkKind::File);
  if (!removed && !is_absence(removed.error())) {
    return removed.error();
  }
  return {};
}

Status MarkWriter::set_opaque(sys::At dir) const {
  if (form_ == WhiteoutForm::Overlay && has_xattrs()) {
    return set_opaque_attribute(dir);
  }
  LFS_ASSIGN(const UniqueFd fd, sys::open_at(dir, O_PATH | O_DIRECTORY));
  const auto made = sys::mknod_at({fd.get(), kOpaqueMarker.data()}, S_IFREG | 0644, 0);
  if (!made && made.error().value() != EEXIST) {
    return made.error();
  }
  return {};
}

Status MarkWriter::set_opaque_attribute(sys::At dir) const {
  return has_xattrs() ? sys::set_xattr(dir, xattr_name("opaque").c_str(), "y")
                      : Status(Errno(EOPNOTSUPP));
}

Status MarkWriter::set_redirect(sys::At at, std::string_view path) const {
  return has_xattrs() ? sys::set_xattr(at, xattr_name("redirect").c_str(), path)
                      : Status(Errno(EOPNOTSUPP));
}

Status MarkWriter::clear_redirect(sys::At at) const {
  LFS_ASSIGN(const auto names, sys::list_xattrs(at));
  for (const std::string& name : names) {
    if (overlay_suffix(name) == "redirect") {
      LFS_TRY(sys::remove_xattr(at, name.c_str()));
    }
  }
  return {};
}

Status MarkWriter::set_metacopy(sys::At at) const {
  // An empty value is what the kernel wrote before it knew digests, and still reads
  // (fs/overlayfs/util.c: ovl_check_metacopy_xattr).
  return has_xattrs() ? sys::set_xattr(at, xattr_name("metacopy").c_str(), "")
                      : Status(Errno(EOPNOTSUPP));
}

Status MarkWriter::clear_metacopy(sys::At at) const {
  LFS_TRY(sys::remove_xattr(at, xattr_name("metacopy").c_str()));
  // A redirect of a file only ever leads to its data.
  return sys::remove_xattr(at, xattr_name("redirect").c_str());
}

Status MarkWriter::set_origin(sys::At at, Origin origin, std::uint64_t own_ino) const {
  return sys::set_xattr(at, xattr_name(kOriginSuffix).c_str(), format_origin(origin, own_ino));
}

Status MarkWriter::set_impure(sys::At dir) const {
  return sys::set_xattr(dir, xattr_name("impure").c_str(), "y");
}

Status MarkWriter::set_nlink(sys::At at, std::string_view value) const {
  return sys::set_xattr(at, xattr_name("nlink").c_str(), value);
}

namespace {

constexpr const char* kProbe = "layerfs-probe";
constexpr const char* kProbeMoved = "layerfs-probe-moved";
constexpr const char* kProbeDotWh = ".wh.layerfs-probe";

// Some filesystems (virtiofs, FUSE) take the call and store something else, so the
// result is looked at.
Result<bool> holds_whiteout_device(sys::At at) {
  LFS_ASSIGN(const auto st, sys::try_stat_at(at));
  return st && is_whiteout_device(*st);
}

Status remove_probes(int work) {
  for (const char* name : {kProbe, kProbeMoved, kProbeDotWh}) {
    const auto removed = sys::unlink_at({work, name}, sys::UnlinkKind::File);
    if (!removed && !is_absence(removed.error())) {
      return removed.error();
    }
  }
  return {};
}

Result<bool> probe_device(int work) {
  LFS_TRY(remove_probes(work));
  const auto made = sys::mknod_at({work, kProbe}, S_IFCHR, makedev(0, 0));
  if (!made) {
    if (is_unsupported(made.error()) || is_not_permitted(made.error())) {
      return false;
    }
    return made.error();
  }
  return holds_whiteout_device({work, kProbe});
}

Result<bool> probe_rename_whiteout(int work) {
  LFS_TRY(remove_probes(work));
  LFS_TRY(sys::mknod_at({work, kProbe}, S_IFREG | 0600, 0));
  const auto moved = sys::rename_at({work, kProbe}, {work, kProbeMoved}, RENAME_WHITEOUT);
  if (!moved) {
    if (is_unsupported(moved.error()) || is_not_permitted(moved.error())) {
      return false;
    }
    return moved.error();
  }
  return holds_whiteout_device({work, kProbe});
}

Result<bool> probe_xattr(int work, const char* name) {
  LFS_TRY(remove_probes(work));
  LFS_TRY(sys::mknod_at({work, kProbe}, S_IFREG | 0600, 0));
  const auto set = sys::set_xattr({work, kProbe}, name, "y");
  if (!set) {
    if (is_unsupported(set.error()) || is_not_permitted(set.error())) {
      return false;
    }
    return set.error();
  }
  return true;
}

}  // namespace

Result<MarkWriter> probe_marks(int work, const MarkWishes& wishes) {
  WhiteoutForm form = wishes.form.value_or(WhiteoutForm::Overlay);
  bool rename_whiteout = false;
  if (form == WhiteoutForm::Overlay) {
    LFS_ASSIGN(const bool device, probe_device(work));
    if (device) {
      LFS_ASSIGN(rename_whiteout, probe_rename_whiteout(work));
    } else if (wishes.form) {
      return Errno(EOPNOTSUPP);
    } else {
      form = WhiteoutForm::DotWh;
    }
  }
  XattrNamespace ns = XattrNamespace::None;
  for (const auto& [candidate, name] : {std::pair{XattrNamespace::Trusted, "trusted.overlay.probe"},
                                        std::pair{XattrNamespace::User, "user.overlay.probe"}}) {
    if (ns != XattrNamespace::None || (wishes.xattrs && *wishes.xattrs != candidate)) {
      continue;
    }
    LFS_ASSIGN(const bool works, probe_xattr(work, name));
    if (works) {
      ns = candidate;
    } else if (wishes.xattrs) {
      return Errno(EOPNOTSUPP);
    }
  }
  LFS_TRY(remove_probes(work));
  return MarkWriter(form, ns, rename_whiteout);
}

Result<bool> holds_dot_wh(int work) {
  LFS_TRY(remove_probes(work));
  const auto made = sys::mknod_at({work, kProbeDotWh}, S_IFREG | 0644, 0);
  if (!made && (is_unsupported(made.error()) || is_not_permitted(made.error()))) {
    return false;
  }
  LFS_TRY(made);
  LFS_TRY(remove_probes(work));
  return true;
}

}  // namespace layerfs
