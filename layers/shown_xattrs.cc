#include "layers/shown_xattrs.h"

#include <sys/xattr.h>

#include <algorithm>

#include "whiteout/marks.h"

namespace layerfs {
namespace {

constexpr std::string_view kPrefix = "user.containers.override_";
constexpr std::string_view kSecurity = "security.";
constexpr std::size_t kLongestName = 255;

bool is_kept_otherwise(OverrideForm form, std::string_view name) {
  return form == OverrideForm::Containers && name.starts_with(kSecurity);
}

// EOPNOTSUPP as for a security module that is not there: the name would be too long.
Result<std::string> stored_name(const std::string& name) {
  if (kPrefix.size() + name.size() > kLongestName) {
    return Errno(EOPNOTSUPP);
  }
  return std::string(kPrefix) + name;
}

}  // namespace

Result<std::optional<std::string>> get_shown_xattr(sys::At at, OverrideForm form,
                                                   const std::string& name) {
  if (is_kept_otherwise(form, name)) {
    if (const auto stored = stored_name(name)) {
      LFS_ASSIGN(auto value, sys::get_xattr(at, stored->c_str()));
      if (value) {
        return value;
      }
    }
  }
  return sys::get_xattr(at, name.c_str());
}

std::vector<std::string> shown_names(const std::vector<std::string>& stored, OverrideForm form) {
  std::vector<std::string> shown;
  for (const std::string& name : stored) {
    const bool otherwise = name.starts_with(kPrefix) &&
                           is_kept_otherwise(form, std::string_view(name).substr(kPrefix.size()));
    std::string as = otherwise ? name.substr(kPrefix.size()) : name;
    const bool twice =
        is_kept_otherwise(form, as) && std::find(shown.begin(), shown.end(), as) != shown.end();
    if (!twice && !is_internal_xattr(as)) {
      shown.push_back(std::move(as));
    }
  }
  return shown;
}

Result<std::vector<std::string>> list_shown_xattrs(sys::At at, OverrideForm form) {
  LFS_ASSIGN(const auto names, sys::list_xattrs(at));
  return shown_names(names, form);
}

Status set_shown_xattr(sys::At at, OverrideForm form, const std::string& name,
                       std::string_view value, int flags) {
  if (!is_kept_otherwise(form, name)) {
    return sys::set_xattr(at, name.c_str(), value, flags);
  }
  LFS_ASSIGN(const std::string stored, stored_name(name));
  LFS_ASSIGN(const struct statx st, sys::stat_at(at));
  if (!sys::takes_user_xattrs(st.stx_mode)) {
    return sys::set_xattr(at, name.c_str(), value, flags);
  }
  if (flags != 0) {
    LFS_ASSIGN(const auto plain, sys::get_xattr(at, name.c_str()));
    if (plain && flags == XATTR_CREATE) {
      return Errno(EEXIST);
    }
    flags = plain ? 0 : flags;
  }
  return sys::set_xattr(at, stored.c_str(), value, flags);
}

Status remove_shown_xattr(sys::At at, OverrideForm form, const std::string& name) {
  if (is_kept_otherwise(form, name)) {
    if (const auto stored = stored_name(name)) {
      LFS_ASSIGN(const auto value, sys::get_xattr(at, stored->c_str()));
      LFS_ASSIGN(const auto plain, sys::get_xattr(at, name.c_str()));
      // The plain one first: it would show once the other is gone.
      if (plain) {
        LFS_TRY(sys::remove_xattr(at, name.c_str()));
      }
      return value ? sys::remove_xattr(at, stored->c_str()) : Status();
    }
  }
  return sys::remove_xattr(at, name.c_str());
}

}  // namespace layerfs
