// The marks that a layer carries: whiteouts, opaque directories, redirects, metacopy
// and where a copied-up object came from. The only place that knows an encoding;
// FORMAT.md describes each byte for byte.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "layers/sys/syscalls.h"

namespace layerfs {

// How a deletion is written: a character device 0:0 of the deleted name, as kernel
// overlayfs has it, or an empty file `.wh.NAME`, as OCI layers have it.
enum class WhiteoutForm { Overlay, DotWh };
// Where our extended attributes go. None: the filesystem stores neither.
enum class XattrNamespace { None, Trusted, User };

inline constexpr std::string_view kWhiteoutPrefix = ".wh.";
inline constexpr std::string_view kOpaqueMarker = ".wh..wh..opq";

// Names that encode a mark: never shown, never created by a user.
bool is_reserved_name(std::string_view name);
// Attributes that encode a mark: never shown, set, removed or copied up.
bool is_internal_xattr(std::string_view name);
bool is_whiteout_device(const struct statx& st);

enum class Opaque {
  No,
  Yes,
  // Not opaque, but its empty regular files may be whiteouts by attribute
  // (Linux fs/overlayfs/util.c: ovl_path_check_xwhiteout_xattr).
  Whiteouts,
};

struct DirMarks {
  Opaque opaque = Opaque::No;
  // Holds objects whose own marks tell where they came from.
  bool impure = false;
  std::optional<std::string> redirect;
};
// Reads the attributes of the directory and looks for kOpaqueMarker in it. Any failure
// but "no such attribute" is an error: guessing "not opaque" would bring back what a
// user removed.
Result<DirMarks> read_dir_marks(sys::At dir);

// The object in the layer below that an upper object was copied from, as far as st_ino
// needs it.
struct Origin {
  std::uint64_t fsid;
  std::uint64_t ino;
};

struct FileMarks {
  bool metacopy = false;
  std::optional<std::string> redirect;
  std::optional<Origin> origin;
  // Hard link count through all layers, relative to the upper inode's own ("U+n") or
  // the lower's ("L+n"), as overlay.nlink of kernel overlayfs.
  std::optional<std::string> nlink;
};
// `own_ino` is the inode number of the object itself: an origin that was recorded for
// another inode (the layer was copied) is ignored.
Result<FileMarks> read_file_marks(sys::At file, std::uint64_t own_ino);

// Whether the file `at`, found in a directory that may hold them, is a whiteout by
// attribute.
Result<bool> is_whiteout_by_xattr(sys::At at);

// Writes marks into one upper or init layer, in the form that was probed for it.
class MarkWriter {
 public:
  MarkWriter() = default;
  MarkWriter(WhiteoutForm form, XattrNamespace ns, bool rename_whiteout)
      : form_(form), namespace_(ns), rename_whiteout_(rename_whiteout) {}

  WhiteoutForm form() const { return form_; }
  XattrNamespace xattr_namespace() const { return namespace_; }
  bool has_xattrs() const { return namespace_ != XattrNamespace::None; }
  // renameat2 with RENAME_WHITEOUT leaves a mark that we read as a whiteout.
  bool has_rename_whiteout() const { return rename_whiteout_; }

  // Hides `name` of the layers below; EEXIST if the layer has such an entry.
  Status make_whiteout(int dir, std::string_view name) const;
  // Removes the whiteout of `name`.
  Status remove_whiteout(int dir, std::string_view name) const;
  // `dir` hides everything below it.
  Status set_opaque(sys::At dir) const;
  // The same by an attribute, in either form: the directory stays empty for the kernel.
  // EOPNOTSUPP: the filesystem stores none.
  Status set_opaque_attribute(sys::At dir) const;
  Status set_redirect(sys::At at, std::string_view path) const;
  // In whichever namespace there is one.
  Status clear_redirect(sys::At at) const;
  Status set_metacopy(sys::At at) const;
  Status clear_metacopy(sys::At at) const;
  Status set_origin(sys::At at, Origin origin, std::uint64_t own_ino) const;
  Status set_impure(sys::At dir) const;
  Status set_nlink(sys::At at, std::string_view value) const;

 private:
  std::string xattr_name(std::string_view suffix) const;

  WhiteoutForm form_ = WhiteoutForm::Overlay;
  XattrNamespace namespace_ = XattrNamespace::None;
  bool rename_whiteout_ = false;
};

// What the user asked for; nullopt: whatever works.
struct MarkWishes {
  std::optional<WhiteoutForm> form;
  std::optional<XattrNamespace> xattrs;
};
// Finds by trying in the directory `work` what the filesystem can hold. A wish that it
// cannot hold is EOPNOTSUPP.
Result<MarkWriter> probe_marks(int work, const MarkWishes& wishes);
// Whether there can be files .wh.NAME in the directory: another layerfs has none.
Result<bool> holds_dot_wh(int work);

}  // namespace layerfs
