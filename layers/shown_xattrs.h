// Extended attributes of an object as the mount shows them. A layer whose OverrideForm is
// Containers has `security.NAME` as `user.containers.override_security.NAME`: what keeps
// others' owners for itself may not set those either.
//
// Source: fuse-overlayfs C 1.14 to 1.16, main.c: encode_xattr_name, decode_xattr_name.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "layers/override_stat.h"
#include "layers/sys/syscalls.h"

namespace layerfs {

// Where the layer has no attribute of the other name, one of the plain name is shown:
// containers/storage unpacks so, as root.
Result<std::optional<std::string>> get_shown_xattr(sys::At at, OverrideForm form,
                                                   const std::string& name);
// Without internal ones (is_internal_xattr), each once.
Result<std::vector<std::string>> list_shown_xattrs(sys::At at, OverrideForm form);
// The same of names that listxattr(2) gave.
std::vector<std::string> shown_names(const std::vector<std::string>& stored, OverrideForm form);
// `flags` as setxattr(2)'s.
Status set_shown_xattr(sys::At at, OverrideForm form, const std::string& name,
                       std::string_view value, int flags = 0);
Status remove_shown_xattr(sys::At at, OverrideForm form, const std::string& name);

}  // namespace layerfs
