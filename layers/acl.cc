#include "layers/acl.h"

#include <endian.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <sys/stat.h>

#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

namespace layerfs {
namespace {

constexpr unsigned kAllRights = ACL_READ | ACL_WRITE | ACL_EXECUTE;
constexpr mode_t kAllPermissions = S_IRWXU | S_IRWXG | S_IRWXO;

struct AclEntry {
  unsigned tag;
  unsigned permissions;
  std::uint32_t id;  // ACL_USER and ACL_GROUP only; else ACL_UNDEFINED_ID
};
using Acl = std::vector<AclEntry>;

bool names_id(unsigned tag) { return tag == ACL_USER || tag == ACL_GROUP; }

// The order and number of entries that fs/posix_acl.c (posix_acl_valid) demands.
bool is_well_formed(const Acl& acl) {
  // The tags that may come next; each tag below moves it on.
  enum class Expect { UserObj, UserOrGroupObj, GroupOrMaskOrOther, Other, End };
  Expect expect = Expect::UserObj;
  bool needs_mask = false;
  for (const AclEntry& entry : acl) {
    if ((entry.permissions & ~kAllRights) != 0) {
      return false;
    }
    if (names_id(entry.tag)) {
      const Expect place =
          entry.tag == ACL_USER ? Expect::UserOrGroupObj : Expect::GroupOrMaskOrOther;
      if (expect != place || entry.id == static_cast<std::uint32_t>(ACL_UNDEFINED_ID)) {
        return false;
      }
      needs_mask = true;
    } else if (entry.tag == ACL_USER_OBJ && expect == Expect::UserObj) {
      expect = Expect::UserOrGroupObj;
    } else if (entry.tag == ACL_GROUP_OBJ && expect == Expect::UserOrGroupObj) {
      expect = Expect::GroupOrMaskOrOther;
    } else if (entry.tag == ACL_MASK && expect == Expect::GroupOrMaskOrOther) {
      expect = Expect::Other;
    } else if (entry.tag == ACL_OTHER &&
               (expect == Expect::Other || (expect == Expect::GroupOrMaskOrOther && !needs_mask))) {
      expect = Expect::End;
    } else {
      return false;
    }
  }
  return expect == Expect::End;
}

// No entries: the attribute is there, but says nothing.
Result<Acl> parse(std::string_view value) {
  posix_acl_xattr_header header{};
  if (value.size() < sizeof header) {
    return Errno(EINVAL);
  }
  std::memcpy(&header, value.data(), sizeof header);
  value.remove_prefix(sizeof header);
  if (le32toh(header.a_version) != POSIX_ACL_XATTR_VERSION ||
      value.size() % sizeof(posix_acl_xattr_entry) != 0) {
    return Errno(EINVAL);
  }
  Acl acl;
  for (; !value.empty(); value.remove_prefix(sizeof(posix_acl_xattr_entry))) {
    posix_acl_xattr_entry raw{};
    std::memcpy(&raw, value.data(), sizeof raw);
    AclEntry entry{le16toh(raw.e_tag), le16toh(raw.e_perm), le32toh(raw.e_id)};
    if (!names_id(entry.tag)) {
      entry.id = static_cast<std::uint32_t>(ACL_UNDEFINED_ID);
    }
    acl.push_back(entry);
  }
  if (!acl.empty() && !is_well_formed(acl)) {
    return Errno(EINVAL);
  }
  return acl;
}

template <class T>
void append(std::string& out, const T& raw) {
  out.append(reinterpret_cast<const char*>(&raw), sizeof raw);
}

std::string format(const Acl& acl) {
  std::string value;
  append(value, posix_acl_xattr_header{htole32(POSIX_ACL_XATTR_VERSION)});
  for (const AclEntry& entry : acl) {
    append(value, posix_acl_xattr_entry{htole16(static_cast<std::uint16_t>(entry.tag)),
                                        htole16(static_cast<std::uint16_t>(entry.permissions)),
                                        htole32(entry.id)});
  }
  return value;
}

// Leaves in the entry and in the three bits of `mode` at `shift` what both grant.
void limit_each_other(AclEntry& entry, mode_t& mode, unsigned shift) {
  entry.permissions &= mode >> shift;
  mode &= ~(kAllRights << shift) | (entry.permissions << shift);
}

// posix_acl_create_masq, for a well-formed ACL. True if it says more than the mode.
bool mask_against_mode(Acl& acl, mode_t& mode) {
  AclEntry* group = &acl.front();  // becomes what the mode's group bits stand for
  bool says_more = false;
  for (AclEntry& entry : acl) {
    switch (entry.tag) {
      case ACL_USER_OBJ:
        limit_each_other(entry, mode, 6);
        break;
      case ACL_OTHER:
        limit_each_other(entry, mode, 0);
        break;
      case ACL_GROUP_OBJ:
        group = &entry;
        break;
      case ACL_MASK:  // comes after ACL_GROUP_OBJ and takes its place
        group = &entry;
        says_more = true;
        break;
      default:
        says_more = true;
        break;
    }
  }
  limit_each_other(*group, mode, 3);
  return says_more;
}

// The entry of an access ACL for each class of the mode's permissions; the mask is the
// group's where there is one.
struct Classes {
  AclEntry* owner;
  AclEntry* group;
  AclEntry* other;
};

Classes classes_of(Acl& acl) {
  Classes classes{&acl.front(), nullptr, &acl.back()};
  for (AclEntry& entry : acl) {
    if (entry.tag == ACL_GROUP_OBJ || entry.tag == ACL_MASK) {
      classes.group = &entry;
    }
  }
  return classes;
}

template <class Map>
Result<std::string> with_mapped_ids(std::string value, const IdMap& uids, const IdMap& gids,
                                    Map&& map) {
  if (uids.is_identity() && gids.is_identity()) {
    return value;
  }
  LFS_ASSIGN(Acl acl, parse(value));
  for (AclEntry& entry : acl) {
    if (!names_id(entry.tag)) {
      continue;
    }
    const std::optional<std::uint32_t> id = map(entry.tag == ACL_USER ? uids : gids, entry.id);
    if (!id) {
      return Errno(EINVAL);
    }
    entry.id = *id;
  }
  return format(acl);
}

}  // namespace

Result<std::string> acl_shown(std::string value, const IdMap& uids, const IdMap& gids) {
  return with_mapped_ids(std::move(value), uids, gids, [](const IdMap& map, std::uint32_t id) {
    return std::optional(map.to_shown(id));
  });
}

Result<std::string> acl_on_disk(std::string value, const IdMap& uids, const IdMap& gids) {
  return with_mapped_ids(std::move(value), uids, gids,
                         [](const IdMap& map, std::uint32_t id) { return map.to_disk(id); });
}

Result<std::optional<mode_t>> mode_of_acl(std::string_view value) {
  LFS_ASSIGN(Acl acl, parse(value));
  if (acl.empty()) {
    return std::optional<mode_t>();
  }
  const Classes classes = classes_of(acl);
  return std::optional<mode_t>(classes.owner->permissions << 6U | classes.group->permissions << 3U |
                               classes.other->permissions);
}

Result<std::string> acl_with_mode(std::string_view value, mode_t mode) {
  LFS_ASSIGN(Acl acl, parse(value));
  if (!acl.empty()) {
    const Classes classes = classes_of(acl);
    classes.owner->permissions = mode >> 6U & kAllRights;
    classes.group->permissions = mode >> 3U & kAllRights;
    classes.other->permissions = mode & kAllRights;
  }
  return format(acl);
}

Result<InheritedAcl> inherit_acl(const std::optional<std::string>& parent_default, mode_t mode,
                                 mode_t umask, bool is_directory) {
  if (S_ISLNK(mode)) {
    return InheritedAcl{mode, std::nullopt, std::nullopt};
  }
  Acl acl;
  if (parent_default) {
    LFS_ASSIGN(acl, parse(*parent_default));
  }
  if (acl.empty()) {
    return InheritedAcl{mode & ~(umask & kAllPermissions), std::nullopt, std::nullopt};
  }
  InheritedAcl inherited{mode, std::nullopt, std::nullopt};
  if (is_directory) {
    inherited.default_acl = format(acl);
  }
  if (mask_against_mode(acl, inherited.mode)) {
    inherited.access = format(acl);
  }
  return inherited;
}

}  // namespace layerfs
