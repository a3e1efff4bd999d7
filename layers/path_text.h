// Paths as text, without asking a filesystem.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "layers/sys/result.h"

namespace layerfs {

// Bytes of one name, without the NUL (Linux NAME_MAX).
inline constexpr std::size_t kMaxNameBytes = 255;
// Of a path that a redirect holds: less than an inode with one block of attributes takes.
inline constexpr std::size_t kMaxRedirectBytes = 3000;

// One name that a directory entry can have: 1 to kMaxNameBytes bytes, no '/', no NUL,
// neither "." nor "..".
bool is_valid_component(std::string_view name);

// The value of an overlay.redirect attribute, as components. "/a/b" is a path from the
// layer root, "name" another name in the same directory; is_absolute_redirect tells
// which. EIO for whatever fs/overlayfs/namei.c (Linux 6.18: ovl_get_redirect_xattr)
// calls invalid (empty, a relative value with '/', an empty component, so also "/" and
// a trailing '/'), and for a component that is no name: "." and ".." would lead out of
// the layer.
Result<std::vector<std::string>> parse_redirect(std::string_view value);
inline bool is_absolute_redirect(std::string_view value) { return value.starts_with('/'); }

// "a/b/c", without a leading '/'; "" for no component.
std::string join(const std::vector<std::string>& components);
// "dir/name"; `name` alone if `dir` is empty, `dir` alone if `name` is.
std::string join(std::string_view dir, std::string_view name);

// How a failure to read what is at `path` of a merged tree is told.
Failure cannot_read(std::string_view path, Errno error);

}  // namespace layerfs
