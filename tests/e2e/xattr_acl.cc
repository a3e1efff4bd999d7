// Extended attributes and ACLs, compared with a plain directory doing the same.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <map>

#include "tests/testlib/as_user.h"
#include "tests/testlib/twin.h"

using namespace layerfs::testing;

namespace {

constexpr const char* kAccess = "system.posix_acl_access";
constexpr const char* kDefault = "system.posix_acl_default";
const User kStranger{1234, 1234, {}};

// As the xattr has it (linux/posix_acl_xattr.h).
class Acl {
 public:
  enum Tag : std::uint16_t {
    UserObj = 1,
    User = 2,
    GroupObj = 4,
    Group = 8,
    Mask = 16,
    Other = 32
  };
  Acl() { append(std::uint32_t{2}); }
  Acl& add(Tag tag, std::uint16_t permissions, std::uint32_t id = ~0U) {
    append(static_cast<std::uint16_t>(tag));
    append(permissions);
    append(id);
    return *this;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  template <class T>
  void append(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  std::string bytes_;
};

std::string typical_acl() {
  return Acl()
      .add(Acl::UserObj, 7)
      .add(Acl::User, 6, 1234)
      .add(Acl::GroupObj, 5)
      .add(Acl::Group, 4, 5678)
      .add(Acl::Mask, 6)
      .add(Acl::Other, 1)
      .bytes();
}

long set(const std::string& path, const std::string& name, const std::string& value,
         int flags = 0) {
  return ::lsetxattr(path.c_str(), name.c_str(), value.data(), value.size(), flags);
}
long get(const std::string& path, const std::string& name) {
  char value[256];
  return ::lgetxattr(path.c_str(), name.c_str(), value, sizeof value);
}

std::map<std::string, std::string> all_xattrs(const std::string& path) {
  std::string names(65536, '\0');
  const ssize_t size = ::llistxattr(path.c_str(), names.data(), names.size());
  if (size < 0) {
    throw_errno(path);
  }
  std::map<std::string, std::string> all;
  for (const char* name = names.data(); name < names.data() + size; name += std::strlen(name) + 1) {
    std::string value(65536, '\0');
    const ssize_t length = ::lgetxattr(path.c_str(), name, value.data(), value.size());
    value.resize(length < 0 ? 0 : static_cast<std::size_t>(length));
    all.emplace(name, length < 0 ? "unreadable" : value);
  }
  return all;
}

void populate(const std::string& dir) {
  write_file(dir + "/file", "data");
  make_dirs(dir + "/dir");
  REQUIRE(::symlink("target", (dir + "/symlink").c_str()) == 0);
  REQUIRE(::mkfifo((dir + "/fifo").c_str(), 0644) == 0);
  for (const char* name : {"/file", "/dir"}) {
    REQUIRE(set(dir + name, "user.lower", "from the lower") == 0);
  }
}

const char* const kObjects[] = {"file", "dir", "symlink", "fifo"};

void copy_up(const Twin& twin, const std::string& object) {
  twin.same([&](const std::string& root) { return ::lchown((root + object).c_str(), 0, 7); });
}

}  // namespace

TEST_CASE(
    "attributes of each namespace are set, read, replaced and removed as on a plain directory",
    "[S-19]") {
  const std::string io = GENERATE(from_range(io_modes()));
  const bool first_copied = GENERATE(false, true);
  const std::string object = GENERATE(from_range(std::begin(kObjects), std::end(kObjects)));
  CAPTURE(io, first_copied, object);
  Twin twin(populate);
  twin.start("--io " + io);
  if (first_copied) {
    copy_up(twin, object);
  }
  for (const std::string name :
       {"user.a", "trusted.a", "security.a", "foo.bar", "foo", "system.nonsense", "user.", "user",
        "", "trusted.", "system.", ".", "user.\xff\xfe", "btrfs.x", "USER.a"}) {
    CAPTURE(name);
    const auto path = [&](const std::string& root) { return root + object; };
    twin.same([&](const std::string& root) { return get(path(root), name); });
    twin.same(
        [&](const std::string& root) { return ::lremovexattr(path(root).c_str(), name.c_str()); });
    twin.same([&](const std::string& root) { return set(path(root), name, "x", XATTR_REPLACE); });
    twin.same([&](const std::string& root) { return set(path(root), name, "x", XATTR_CREATE); });
    twin.same([&](const std::string& root) { return set(path(root), name, "y", XATTR_CREATE); });
    twin.same([&](const std::string& root) { return set(path(root), name, "new", XATTR_REPLACE); });
    twin.same([&](const std::string& root) { return set(path(root), name, ""); });
    twin.same([&](const std::string& root) { return get(path(root), name); });
    twin.same([&](const std::string& root) { return set(path(root), name, "value"); });
    twin.same([&](const std::string& root) {
      return ::lgetxattr(path(root).c_str(), name.c_str(), nullptr, 0);
    });
    twin.same([&](const std::string& root) {
      char little[2];
      return ::lgetxattr(path(root).c_str(), name.c_str(), little, sizeof little);
    });
    for (const auto& call : std::vector<std::function<long(const std::string&)>>{
             [&](const std::string& root) { return get(path(root), name); },
             [&](const std::string& root) { return set(path(root), name, "stranger"); },
             [&](const std::string& root) {
               return ::lremovexattr(path(root).c_str(), name.c_str());
             }}) {
      twin.alike(
          [&](const std::string& root) { return errno_as(kStranger, [&] { return call(root); }); });
    }
  }
  twin.alike([&](const std::string& root) { return all_xattrs(root + object); });
  twin.mount().remount();
  twin.alike([&](const std::string& root) { return all_xattrs(root + object); });
}

TEST_CASE("sizes of values and lists: what is asked for, ERANGE, E2BIG and a full inode") {
  const std::string io = GENERATE(from_range(io_modes()));
  const std::string object = GENERATE("file", "dir");
  CAPTURE(io, object);
  Twin twin(populate);
  twin.start("--io " + io);
  for (int i = 0; i < 20; ++i) {
    twin.same([&](const std::string& root) {
      return set(root + object, "user.some_longer_name_" + std::to_string(i), "v");
    });
  }
  for (const std::size_t size : {0, 1, 100, 475, 476, 477, 478, 65536}) {
    CAPTURE(size);
    twin.same([&](const std::string& root) {
      std::string list(size, '\0');
      return ::llistxattr((root + object).c_str(), list.data(), size);
    });
  }
  for (const std::size_t size : {100, 1500, 65536, 65537}) {
    CAPTURE(size);
    twin.same([&](const std::string& root) {
      return set(root + object, "user.large", std::string(size, 'x'));
    });
  }
  const std::string longest = "user." + std::string(250, 'n');
  twin.same([&](const std::string& root) { return set(root + object, longest, "v"); });
  twin.same([&](const std::string& root) { return set(root + object, longest + "n", "v"); });
  twin.alike([&](const std::string& root) { return all_xattrs(root + object); });
}

TEST_CASE("trusted attributes are listed to user 0 only", "[S-14]") {
  TestMount mount;
  REQUIRE(::chmod(mount.base().c_str(), 0755) == 0);
  write_file(mount.lower() + "/f", "");
  REQUIRE(set(mount.lower() + "/f", "trusted.a", "v") == 0);
  REQUIRE(set(mount.lower() + "/f", "user.a", "v") == 0);
  mount.mount("");
  const auto lists = [&](std::size_t bytes) {
    return [&, bytes]() -> long {
      char names[64];
      return ::listxattr(mount.at("f").c_str(), names, sizeof names) == static_cast<long>(bytes)
                 ? 0
                 : -1;
    };
  };
  CHECK(errno_as({0, 0, {}}, lists(sizeof "trusted.a" + sizeof "user.a")) == 0);
  CHECK(errno_as(kStranger, lists(sizeof "user.a")) == 0);
}

TEST_CASE("reading attributes copies nothing up, and neither does a refused change") {
  TestMount mount;
  populate(mount.lower());
  mount.mount("");
  for (const std::string object : kObjects) {
    CAPTURE(object);
    all_xattrs(mount.at(object));
    CHECK(set(mount.at(object), "foo.bar", "v") < 0);
    CHECK(errno == EOPNOTSUPP);
    CHECK(::lremovexattr(mount.at(object).c_str(), "trusted.none") < 0);
    CHECK(set(mount.at(object), "trusted.overlay.opaque", "y") < 0);
  }
  CHECK(names_in(mount.upper()).empty());
}

TEST_CASE("attributes of layerfs and overlayfs themselves are not shown and not taken", "[S-11]") {
  const std::string io = GENERATE(from_range(io_modes()));
  const std::string object = GENERATE("file", "dir");
  CAPTURE(io, object);
  TestMount mount;
  populate(mount.lower());
  const std::vector<std::string> internal = {"trusted.overlay.opaque", "trusted.overlay.nonsense",
                                             "user.overlay.origin", "user.fuseoverlayfs.opaque",
                                             "user.containers.override_stat"};
  REQUIRE(set(mount.lower() + "/" + object, "trusted.overlay.nonsense", "x") == 0);
  mount.mount("--io " + io);
  for (int pass = 0; pass < 2; ++pass) {
    CHECK(all_xattrs(mount.at(object)).size() == 1);
    for (const std::string& name : internal) {
      CAPTURE(name);
      CHECK(get(mount.at(object), name) < 0);
      CHECK(errno == ENODATA);
      CHECK(set(mount.at(object), name, "y") < 0);
      CHECK(errno == EPERM);
      CHECK(::lremovexattr(mount.at(object).c_str(), name.c_str()) < 0);
    }
    // By copy-up the upper gets marks of its own.
    REQUIRE(::chmod(mount.at(object).c_str(), 0700) == 0);
  }
}

TEST_CASE("an ACL and the mode change together, before and after copy-up") {
  const std::string io = GENERATE(from_range(io_modes()));
  const bool from_lower = GENERATE(false, true);
  const std::string object = GENERATE("file", "dir", "fifo");
  CAPTURE(io, from_lower, object);
  Twin twin([&](const std::string& dir) {
    populate(dir);
    if (from_lower) {
      REQUIRE(set(dir + "/" + object, kAccess, typical_acl()) == 0);
    }
  });
  twin.start("--io " + io);
  const auto state = [&](const std::string& root) {
    return std::pair(stat_of(root + object).st_mode, all_xattrs(root + object));
  };
  twin.alike(state);
  if (!from_lower) {
    twin.same([&](const std::string& root) { return set(root + object, kAccess, typical_acl()); });
    twin.alike(state);
  }
  for (const mode_t mode : {0640U, 0777U, 0000U, 02751U}) {
    CAPTURE(mode);
    twin.same([&](const std::string& root) { return ::chmod((root + object).c_str(), mode); });
    twin.alike(state);
  }
  twin.mount().remount();
  twin.alike(state);
  // One that says no more than a mode can is stored as the mode.
  const std::string minimal =
      Acl().add(Acl::UserObj, 6).add(Acl::GroupObj, 4).add(Acl::Other, 0).bytes();
  twin.same([&](const std::string& root) { return set(root + object, kAccess, minimal); });
  twin.alike(state);
  twin.same([&](const std::string& root) { return set(root + object, kAccess, typical_acl()); });
  twin.same(
      [&](const std::string& root) { return ::lremovexattr((root + object).c_str(), kAccess); });
  twin.alike(state);
  twin.same([&](const std::string& root) { return set(root + object, kAccess, "nonsense"); });
  twin.same([&](const std::string& root) {
    return set(root + object, kAccess, Acl().add(Acl::UserObj, 7).bytes());
  });
  twin.same([&](const std::string& root) { return set(root + object, kDefault, typical_acl()); });
  twin.alike([&](const std::string& root) {
    return errno_as(kStranger, [&] { return set(root + object, kAccess, typical_acl()); });
  });
  twin.alike(state);
}

TEST_CASE("an access ACL decides who may open, before and after copy-up") {
  const std::string io = GENERATE(from_range(io_modes()));
  const bool copied = GENERATE(false, true);
  CAPTURE(io, copied);
  Twin twin([&](const std::string& dir) {
    populate(dir);
    REQUIRE(::chmod((dir + "/file").c_str(), 0600) == 0);
    REQUIRE(set(dir + "/file", kAccess, typical_acl()) == 0);
  });
  REQUIRE(::chmod(twin.mount().base().c_str(), 0755) == 0);
  twin.start("--io " + io);
  if (copied) {
    copy_up(twin, "file");
  }
  for (const User& user : {kStranger, User{1, 1, {}}, User{2, 5678, {}}, User{3, 3, {5678}}}) {
    for (const int flags : {O_RDONLY, O_WRONLY, O_RDWR}) {
      CAPTURE(describe(user), flags);
      twin.alike([&](const std::string& root) {
        return errno_as(user, [&] { return ::open((root + "file").c_str(), flags | O_CLOEXEC); });
      });
    }
  }
}

TEST_CASE("a default ACL is inherited by all that is made in the directory") {
  const std::string io = GENERATE(from_range(io_modes()));
  const bool from_lower = GENERATE(false, true);
  CAPTURE(io, from_lower);
  Twin twin([&](const std::string& dir) {
    populate(dir);
    if (from_lower) {
      REQUIRE(set(dir + "/dir", kDefault, typical_acl()) == 0);
    }
  });
  twin.start("--io " + io);
  if (!from_lower) {
    twin.same([&](const std::string& root) { return set(root + "dir", kDefault, typical_acl()); });
  }
  for (const mode_t umask : {0022U, 0077U, 0000U}) {
    CAPTURE(umask);
    const mode_t old = ::umask(umask);
    const std::string name = "dir/" + std::to_string(umask);
    twin.same([&](const std::string& root) { return ::mkdir((root + name + "d").c_str(), 0777); });
    twin.same([&](const std::string& root) {
      return ::close(::open((root + name + "f").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0666));
    });
    twin.same([&](const std::string& root) {
      return ::mknod((root + name + "p").c_str(), S_IFIFO | 0640, 0);
    });
    twin.same([&](const std::string& root) { return ::symlink("x", (root + name + "l").c_str()); });
    twin.same(
        [&](const std::string& root) { return ::mkdir((root + name + "d/below").c_str(), 0700); });
    ::umask(old);
    for (const std::string suffix : {"d", "f", "p", "l", "d/below"}) {
      CAPTURE(suffix);
      twin.alike([&](const std::string& root) {
        return std::pair(stat_of(root + name + suffix).st_mode, all_xattrs(root + name + suffix));
      });
    }
  }
  twin.mount().remount();
  twin.alike([&](const std::string& root) { return all_xattrs(root + "dir"); });
  twin.same(
      [&](const std::string& root) { return ::lremovexattr((root + "dir").c_str(), kDefault); });
  twin.alike([&](const std::string& root) { return all_xattrs(root + "dir"); });
}

TEST_CASE("ids in ACLs are mapped as owners are, and decide so who may open") {
  TestMount mount;
  write_file(mount.lower() + "/file", "data");
  REQUIRE(::chmod((mount.lower() + "/file").c_str(), 0600) == 0);
  make_dirs(mount.lower() + "/dir");
  const auto acl = [](std::uint32_t user, std::uint32_t group) {
    return Acl()
        .add(Acl::UserObj, 6)
        .add(Acl::User, 4, user)
        .add(Acl::GroupObj, 0)
        .add(Acl::Group, 4, group)
        .add(Acl::Mask, 4)
        .add(Acl::Other, 0)
        .bytes();
  };
  REQUIRE(set(mount.lower() + "/file", kAccess, acl(1234, 1567)) == 0);
  REQUIRE(set(mount.lower() + "/dir", kDefault, acl(1234, 1567)) == 0);
  REQUIRE(::chmod(mount.base().c_str(), 0755) == 0);
  mount.mount("--uidmapping 0:0:1000:1000:5000:1000 --gidmapping 0:0:1000:1000:7000:1000");

  CHECK(all_xattrs(mount.at("file")).at(kAccess) == acl(5234, 7567));
  CHECK(all_xattrs(mount.at("dir")).at(kDefault) == acl(5234, 7567));
  const auto open_as = [&](const User& user) {
    return errno_as(user, [&] { return ::open(mount.at("file").c_str(), O_RDONLY | O_CLOEXEC); });
  };
  CHECK(open_as({5234, 1, {}}) == 0);
  CHECK(open_as({1234, 1, {}}) == EACCES);
  CHECK(open_as({1, 7567, {}}) == 0);
  CHECK(open_as({1, 1567, {}}) == EACCES);

  CHECK(set(mount.at("file"), kAccess, acl(5001, 99999)) < 0);
  CHECK(errno == EINVAL);
  CHECK_FALSE(exists(mount.upper() + "/file"));
  REQUIRE(set(mount.at("file"), kAccess, acl(5001, 7002)) == 0);
  CHECK(all_xattrs(mount.upper() + "/file").at(kAccess) == acl(1001, 1002));
  write_file(mount.at("dir/new"), "");
  CHECK(all_xattrs(mount.at("dir/new")).at(kAccess) == acl(5234, 7567));
  CHECK(all_xattrs(mount.upper() + "/dir/new").at(kAccess) == acl(1234, 1567));
}

TEST_CASE("file capabilities are copied up, and dropped by a write and a change of owner") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  // cap_net_raw, permitted and effective (linux/capability.h: vfs_cap_data, revision 2)
  const std::string capability(
      "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
      "\x00\x00\x00\x00",
      20);
  Twin twin([&](const std::string& dir) {
    write_file(dir + "/file", "data");
    REQUIRE(set(dir + "/file", "security.capability", capability) == 0);
  });
  twin.start("--io " + io);
  const auto state = [](const std::string& root) { return all_xattrs(root + "file"); };
  CHECK(twin.alike(state).size() == 1);
  twin.same([](const std::string& root) { return ::chmod((root + "file").c_str(), 0711); });
  CHECK(twin.alike(state).size() == 1);
  twin.mount().remount();
  CHECK(twin.alike(state).size() == 1);
  const auto change = GENERATE(0, 1, 2, 3);
  CAPTURE(change);
  twin.same([&](const std::string& root) -> long {
    const std::string path = root + "file";
    if (change == 0) {
      return ::chown(path.c_str(), 0, 5);
    }
    if (change == 1) {
      return ::truncate(path.c_str(), 1);
    }
    const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC | (change == 2 ? O_TRUNC : 0));
    return ::write(fd, "x", 1) + ::close(fd);
  });
  CHECK(twin.alike(state).empty());
  twin.mount().remount();
  CHECK(twin.alike(state).empty());
}
