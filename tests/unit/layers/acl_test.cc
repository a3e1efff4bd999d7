#include "layers/acl.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>

using namespace layerfs;
using namespace std::string_literals;

namespace {

struct Entry {
  unsigned tag;
  unsigned perm;
  unsigned id = 0xffffffff;
};
constexpr unsigned kUserObj = 1;
constexpr unsigned kUser = 2;
constexpr unsigned kGroupObj = 4;
constexpr unsigned kGroup = 8;
constexpr unsigned kMask = 16;
constexpr unsigned kOther = 32;

// Written out here by the definition of the format, not by the code under test.
std::string acl_value(const std::vector<Entry>& entries, unsigned version = 2) {
  std::string value;
  const auto put = [&](unsigned number, int bytes) {
    for (int i = 0; i < bytes; ++i) {
      value += static_cast<char>(number >> (8 * i) & 0xff);
    }
  };
  put(version, 4);
  for (const Entry& entry : entries) {
    put(entry.tag, 2);
    put(entry.perm, 2);
    put(entry.id, 4);
  }
  return value;
}

InheritedAcl inherited(const std::optional<std::string>& parent, mode_t mode, mode_t umask,
                       bool is_directory) {
  const auto result = inherit_acl(parent, mode, umask, is_directory);
  REQUIRE(result.ok());
  return *result;
}

// A directory of our own on a filesystem with POSIX ACLs; empty where there is none.
class AclDirectory {
 public:
  AclDirectory() {
    for (const char* parent : {"/dev/shm", "/var/tmp", "/tmp"}) {
      std::string path = parent + "/layerfs-acl-XXXXXX"s;
      if (mkdtemp(path.data()) == nullptr) {
        continue;
      }
      path_ = path;
      if (set_default({{kUserObj, 7}, {kGroupObj, 7}, {kOther, 7}})) {
        return;
      }
      remove();
    }
  }
  AclDirectory(const AclDirectory&) = delete;
  AclDirectory& operator=(const AclDirectory&) = delete;
  ~AclDirectory() { remove(); }

  const std::string& path() const { return path_; }
  bool set_default(const std::vector<Entry>& entries) const {
    const std::string value = acl_value(entries);
    return setxattr(path_.c_str(), kAclDefaultXattr, value.data(), value.size(), 0) == 0;
  }

 private:
  void remove() {
    if (!path_.empty()) {
      std::filesystem::remove_all(path_);
      path_.clear();
    }
  }
  std::string path_;
};

std::optional<std::string> read_xattr(const std::string& path, const char* name) {
  char value[4096];
  const ssize_t size = getxattr(path.c_str(), name, value, sizeof value);
  if (size < 0) {
    REQUIRE(errno == ENODATA);
    return std::nullopt;
  }
  return std::string(value, static_cast<std::size_t>(size));
}

const std::vector<std::vector<Entry>>& default_acls() {
  static const std::vector<std::vector<Entry>> acls = {
      {{kUserObj, 7}, {kGroupObj, 5}, {kOther, 0}},
      {{kUserObj, 6}, {kGroupObj, 4}, {kOther, 4}},
      {{kUserObj, 0}, {kGroupObj, 0}, {kOther, 7}},
      {{kUserObj, 7}, {kGroupObj, 7}, {kMask, 5}, {kOther, 1}},
      {{kUserObj, 7}, {kUser, 6, 1000}, {kGroupObj, 5}, {kMask, 7}, {kOther, 5}},
      {{kUserObj, 5}, {kGroupObj, 7}, {kGroup, 7, 100}, {kMask, 3}, {kOther, 0}},
      {{kUserObj, 7},
       {kUser, 7, 0},
       {kUser, 1, 65534},
       {kGroupObj, 0},
       {kGroup, 2, 5},
       {kGroup, 4, 6},
       {kMask, 6},
       {kOther, 7}},
  };
  return acls;
}

constexpr mode_t kUmasks[] = {0, 022, 077, 0777};

}  // namespace

TEST_CASE("inherit_acl gives what the kernel gives, for every mode, file and directory") {
  const AclDirectory parent;
  if (parent.path().empty()) {
    WARN("no filesystem with POSIX ACLs under /dev/shm, /var/tmp or /tmp: not compared");
    return;
  }
  const std::string name = parent.path() + "/object";
  std::vector<std::optional<std::string>> cases = {std::nullopt};
  for (const auto& entries : default_acls()) {
    cases.emplace_back(acl_value(entries));
  }
  for (const auto& value : cases) {
    if (value) {
      REQUIRE(setxattr(parent.path().c_str(), kAclDefaultXattr, value->data(), value->size(), 0) ==
              0);
    } else {
      REQUIRE(removexattr(parent.path().c_str(), kAclDefaultXattr) == 0);
    }
    for (const mode_t umask_bits : kUmasks) {
      for (mode_t mode = 0; mode <= 0777; ++mode) {
        for (const bool is_directory : {false, true}) {
          const mode_t old = umask(umask_bits);
          const int made =
              is_directory ? mkdir(name.c_str(), mode) : mknod(name.c_str(), S_IFREG | mode, 0);
          umask(old);
          REQUIRE(made == 0);
          struct stat st {};
          REQUIRE(stat(name.c_str(), &st) == 0);
          const auto access = read_xattr(name, kAclAccessXattr);
          const auto default_acl = is_directory ? read_xattr(name, kAclDefaultXattr) : std::nullopt;
          REQUIRE((is_directory ? rmdir(name.c_str()) : unlink(name.c_str())) == 0);

          const InheritedAcl ours = inherited(value, mode, umask_bits, is_directory);
          const bool same = ours.mode == (st.st_mode & 0777) && ours.access == access &&
                            ours.default_acl == default_acl;
          if (!same) {
            CAPTURE(mode, umask_bits, is_directory, st.st_mode & 0777, ours.mode);
            CHECK(ours.mode == (st.st_mode & 0777));
            CHECK(ours.access == access);
            REQUIRE(ours.default_acl == default_acl);
          }
        }
      }
    }
  }
}

TEST_CASE("without a default ACL only the umask's permission bits are taken away") {
  const InheritedAcl acl = inherited(std::nullopt, S_IFDIR | S_ISGID | 0777, 07027, true);
  CHECK(acl.mode == (S_IFDIR | S_ISGID | 0750));
  CHECK_FALSE(acl.access);
  CHECK_FALSE(acl.default_acl);
}

TEST_CASE("an ACL without entries is none") {
  const InheritedAcl acl = inherited(acl_value({}), 0666, 022, true);
  CHECK(acl.mode == 0644);
  CHECK_FALSE(acl.default_acl);
}

TEST_CASE("with a default ACL the umask is ignored and bits beyond 0777 stay") {
  const std::string parent = acl_value({{kUserObj, 7}, {kGroupObj, 5}, {kOther, 1}});
  const InheritedAcl acl = inherited(parent, S_IFREG | S_ISUID | 0777, 0777, false);
  CHECK(acl.mode == (S_IFREG | S_ISUID | 0751));
  CHECK_FALSE(acl.access);
}

TEST_CASE("the mask, where there is one, and not the group entry answers to the mode") {
  const std::string parent =
      acl_value({{kUserObj, 7}, {kUser, 7, 1000}, {kGroupObj, 5}, {kMask, 7}, {kOther, 5}});
  const InheritedAcl acl = inherited(parent, 0640, 0, true);
  CHECK(acl.mode == 0640);
  CHECK(acl.access ==
        acl_value({{kUserObj, 6}, {kUser, 7, 1000}, {kGroupObj, 5}, {kMask, 4}, {kOther, 0}}));
  CHECK(acl.default_acl == parent);
}

TEST_CASE("a default ACL passes on to directories, not to files or symlinks") {
  const std::string parent = acl_value({{kUserObj, 7}, {kGroupObj, 5}, {kOther, 0}});
  CHECK(inherited(parent, 0777, 0, true).default_acl == parent);
  CHECK_FALSE(inherited(parent, 0777, 0, false).default_acl);
  const InheritedAcl link = inherited(parent, S_IFLNK | 0777, 0777, false);
  CHECK(link.mode == (S_IFLNK | 0777));
  CHECK_FALSE(link.access);
}

TEST_CASE("a malformed ACL is EINVAL") {
  const Entry user{kUserObj, 7};
  const Entry group{kGroupObj, 7};
  const Entry other{kOther, 7};
  const Entry mask{kMask, 7};
  const std::string good = acl_value({user, group, other});
  const std::string malformed[] = {
      ""s,
      good.substr(0, 3),
      good.substr(0, good.size() - 1),
      good + "x",
      acl_value({user, group, other}, 1),
      acl_value({user, group}),  // something missing
      acl_value({user, other}),
      acl_value({group, other}),
      acl_value({other}),
      acl_value({group, user, other}),  // out of order
      acl_value({user, group, other, mask}),
      acl_value({user, {kGroup, 7, 1}, group, mask, other}),
      acl_value({user, group, {kUser, 7, 1}, mask, other}),
      acl_value({user, {kUser, 7, 1}, group, other}),  // needs a mask
      acl_value({user, group, {kGroup, 7, 1}, other}),
      acl_value({user, user, group, other}),  // twice
      acl_value({user, group, group, other}),
      acl_value({user, group, mask, mask, other}),
      acl_value({user, group, other, other}),
      acl_value({{kUserObj, 8}, group, other}),  // no such permission
      acl_value({user, group, {kOther, 0x100}}),
      acl_value({user, {kUser, 7}, group, mask, other}),  // no id
      acl_value({user, group, {64, 7}, other}),           // no such tag
      acl_value({user, group, {0, 7}, other}),
  };
  for (const std::string& value : malformed) {
    CAPTURE(value.size());
    for (const bool is_directory : {false, true}) {
      const auto result = inherit_acl(value, 0777, 0, is_directory);
      REQUIRE_FALSE(result.ok());
      CHECK(result.error() == Errno(EINVAL));
    }
  }
}

TEST_CASE("the mode of an access ACL is that of owner, mask or else group, and others") {
  const auto small = acl_value({{kUserObj, 6}, {kGroupObj, 4}, {kOther, 1}});
  const auto large =
      acl_value({{kUserObj, 7}, {kUser, 7, 1000}, {kGroupObj, 1}, {kMask, 5}, {kOther, 0}});
  CHECK(**mode_of_acl(small) == 0641);
  CHECK(**mode_of_acl(large) == 0750);
  CHECK_FALSE(mode_of_acl(acl_value({}))->has_value());
  CHECK(mode_of_acl("no ACL").error().value() == EINVAL);
}

TEST_CASE("a mode put into an access ACL changes owner, mask or else group, and others") {
  CHECK(*acl_with_mode(acl_value({{kUserObj, 6}, {kGroupObj, 4}, {kOther, 1}}), 0100427) ==
        acl_value({{kUserObj, 4}, {kGroupObj, 2}, {kOther, 7}}));
  CHECK(*acl_with_mode(acl_value({{kUserObj, 7},
                                  {kUser, 7, 1000},
                                  {kGroupObj, 1},
                                  {kGroup, 6, 8},
                                  {kMask, 5},
                                  {kOther, 0}}),
                       06031) == acl_value({{kUserObj, 0},
                                            {kUser, 7, 1000},
                                            {kGroupObj, 1},
                                            {kGroup, 6, 8},
                                            {kMask, 3},
                                            {kOther, 1}}));
  CHECK(acl_with_mode("no ACL", 0644).error().value() == EINVAL);
}

TEST_CASE("ids in an ACL are mapped as owners are, users and groups by their own map") {
  const auto of = [](unsigned user, unsigned group) {
    return acl_value({{kUserObj, 7},
                      {kUser, 6, user},
                      {kGroupObj, 5},
                      {kGroup, 4, group},
                      {kMask, 3},
                      {kOther, 1}});
  };
  const IdMap uids = *IdMap::from_triples({{0, 1000, 1}, {1, 100000, 100}});
  const IdMap gids = *IdMap::from_triples({{0, 2000, 1}, {1, 200000, 100}});
  CHECK(*acl_shown(of(5, 7), uids, gids) == of(100004, 200006));
  CHECK(*acl_on_disk(of(100004, 200006), uids, gids) == of(5, 7));
  CHECK(*acl_shown(of(0, 999), uids, gids) == of(1000, IdMap::kDefaultOverflowId));
  CHECK(acl_on_disk(of(5, 200006), uids, gids).error() == Errno(EINVAL));
  CHECK(acl_on_disk(of(100004, 7), uids, gids).error() == Errno(EINVAL));
  CHECK(*acl_shown(of(5, 7), IdMap(), gids) == of(5, 200006));
  CHECK(*acl_shown(of(5, 7), IdMap::squash(1000), IdMap::squash(1001)) == of(1000, 1001));
  CHECK(*acl_on_disk(of(5, 7), IdMap::squash(1000), IdMap::squash(1001)) == of(5, 7));
  CHECK(*acl_shown(acl_value({}), uids, gids) == acl_value({}));
  CHECK(acl_shown("no ACL", uids, gids).error() == Errno(EINVAL));
  CHECK(*acl_shown("no ACL", IdMap(), IdMap()) == "no ACL");
}
