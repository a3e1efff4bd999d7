// POSIX ACLs in the form of their extended attributes (linux/posix_acl_xattr.h,
// version 2), and what a new object inherits from its directory.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>

#include "layers/id_map.h"
#include "layers/sys/result.h"

namespace layerfs {

inline constexpr const char* kAclAccessXattr = "system.posix_acl_access";
inline constexpr const char* kAclDefaultXattr = "system.posix_acl_default";

struct InheritedAcl {
  mode_t mode;                             // to create the object with, under umask 0
  std::optional<std::string> access;       // value of kAclAccessXattr; unset: the mode says all
  std::optional<std::string> default_acl;  // value of kAclDefaultXattr; directories only
};

// What an object created with `mode` gets in a directory whose default ACL is
// `parent_default` (unset: none), as fs/posix_acl.c (Linux 6.18: posix_acl_create) has
// it: without a default ACL the umask applies; with one it does not, and ACL and mode
// limit each other. Bits of `mode` beyond 0777 pass unchanged; a mode of S_IFLNK
// inherits nothing. EINVAL: not a well-formed ACL.
Result<InheritedAcl> inherit_acl(const std::optional<std::string>& parent_default, mode_t mode,
                                 mode_t umask, bool is_directory);

// The permission bits that go with an access ACL, where the mode is kept apart from it:
// those it stands for (fs/posix_acl.c: posix_acl_equiv_mode; unset: it has no entries), and
// the ACL after a change of the mode (posix_acl_chmod). EINVAL: not well-formed.
Result<std::optional<mode_t>> mode_of_acl(std::string_view value);
Result<std::string> acl_with_mode(std::string_view value, mode_t mode);

// The ACL with the ids of its entries as the mount shows them, and as a layer holds them.
// EINVAL: not well-formed; on_disk also if no id on disk stands for one of them.
Result<std::string> acl_shown(std::string value, const IdMap& uids, const IdMap& gids);
Result<std::string> acl_on_disk(std::string value, const IdMap& uids, const IdMap& gids);

}  // namespace layerfs
