// Who may do what: every operation by several users, on objects of many modes, ACLs and groups,
// is allowed and refused as in a plain directory.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <functional>

#include "tests/testlib/as_user.h"
#include "tests/testlib/twin.h"

using namespace layerfs::testing;

namespace {

constexpr uid_t kOwner = 1001;
constexpr gid_t kGroup = 2001;
constexpr gid_t kNamedGroup = 2002;
constexpr uid_t kNamedUser = 1003;

const User kUsers[] = {{0, 0, {}},
                       {kOwner, 2999, {}},
                       {1002, 2999, {5, kGroup}},
                       {kNamedUser, 2999, {}},
                       {1004, 2999, {kNamedGroup}},
                       {1005, 2999, {}}};

// An entry of an ACL as the attribute has it (linux/posix_acl_xattr.h).
void add(std::string& acl, std::uint16_t tag, std::uint16_t permissions, std::uint32_t id = ~0U) {
  acl.append(reinterpret_cast<const char*>(&tag), sizeof tag);
  acl.append(reinterpret_cast<const char*>(&permissions), sizeof permissions);
  acl.append(reinterpret_cast<const char*>(&id), sizeof id);
}

// owner, named user, group, named group, mask, others
std::string acl(std::uint16_t owner, std::uint16_t user, std::uint16_t group,
                std::uint16_t named_group, std::uint16_t mask, std::uint16_t other) {
  std::string text("\2\0\0\0", 4);
  add(text, 1, owner);
  add(text, 2, user, kNamedUser);
  add(text, 4, group);
  add(text, 8, named_group, kNamedGroup);
  add(text, 16, mask);
  add(text, 32, other);
  return text;
}

struct Guard {
  const char* name;
  mode_t mode;
  std::string acl;  // "": none
};

const Guard kGuards[] = {{"rwx------", 0700, ""},
                         {"rwxr-xr-x", 0755, ""},
                         {"---rwxrwx", 0077, ""},
                         {"rwx---rwx", 0707, ""},
                         {"sticky", 01777, ""},
                         {"acl-user", 0700, acl(7, 7, 0, 0, 7, 0)},
                         {"acl-masked", 0700, acl(7, 7, 7, 7, 4, 7)},
                         {"acl-refused", 0707, acl(7, 0, 5, 1, 7, 7)}};

void guard(const std::string& path, const Guard& how) {
  REQUIRE(::chown(path.c_str(), kOwner, kGroup) == 0);
  REQUIRE(::chmod(path.c_str(), how.mode) == 0);
  if (!how.acl.empty()) {
    REQUIRE(::setxattr(path.c_str(), "system.posix_acl_access", how.acl.data(), how.acl.size(),
                       0) == 0);
  }
}

struct Operation {
  const char* name;
  // Of the guarded directory, with a slash at its end. It holds `file`, of the owner and for all;
  // `dir`; and `link`. Of the guarded file it is its path.
  std::function<long(const std::string& at)> call;
};

long opens(const std::string& path, int flags) {
  const int fd = ::open(path.c_str(), flags | O_CLOEXEC, 0644);
  return fd < 0 ? -1 : ::close(fd);
}

long lists(const std::string& path) {
  DIR* dir = ::opendir(path.c_str());
  return dir == nullptr ? -1 : ::closedir(dir);
}

long sets(const std::string& path, const char* name) {
  return ::lsetxattr(path.c_str(), name, "v", 1, 0);
}

long gets(const std::string& path, const char* name) {
  char value[64];
  return ::lgetxattr(path.c_str(), name, value, sizeof value);
}

long touches(const std::string& path, const timespec* times) {
  return ::utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW);
}

const timespec kSomeTimes[2] = {{1, 0}, {1, 0}};
const timespec kNow[2] = {{0, UTIME_NOW}, {0, UTIME_NOW}};

const Operation kInDirectory[] = {
    {"list", [](auto& at) { return lists(at); }},
    {"stat in it", [](auto& at) { return ::access((at + "file").c_str(), F_OK); }},
    {"read in it", [](auto& at) { return opens(at + "file", O_RDONLY); }},
    {"write in it", [](auto& at) { return opens(at + "file", O_WRONLY); }},
    {"create", [](auto& at) { return opens(at + "new", O_WRONLY | O_CREAT | O_EXCL); }},
    {"nameless file", [](auto& at) { return opens(at, O_TMPFILE | O_RDWR); }},
    {"mkdir", [](auto& at) { return ::mkdir((at + "new").c_str(), 0755); }},
    {"mkfifo", [](auto& at) { return ::mkfifo((at + "new").c_str(), 0644); }},
    {"device", [](auto& at) { return ::mknod((at + "new").c_str(), S_IFCHR | 0644, 0x103); }},
    {"symlink", [](auto& at) { return ::symlink("x", (at + "new").c_str()); }},
    {"link", [](auto& at) { return ::link((at + "file").c_str(), (at + "new").c_str()); }},
    {"rename", [](auto& at) { return ::rename((at + "file").c_str(), (at + "new").c_str()); }},
    {"rename over",
     [](auto& at) { return ::rename((at + "file").c_str(), (at + "link").c_str()); }},
    {"rename of a directory",
     [](auto& at) { return ::rename((at + "dir").c_str(), (at + "new").c_str()); }},
    {"exchange",
     [](auto& at) {
       return ::renameat2(AT_FDCWD, (at + "file").c_str(), AT_FDCWD, (at + "link").c_str(),
                          RENAME_EXCHANGE);
     }},
    {"unlink", [](auto& at) { return ::unlink((at + "file").c_str()); }},
    {"rmdir", [](auto& at) { return ::rmdir((at + "dir").c_str()); }},
    {"readlink",
     [](auto& at) {
       char target[8];
       return ::readlink((at + "link").c_str(), target, sizeof target);
     }},
    {"chdir", [](auto& at) { return ::chdir(at.c_str()); }},
};

const Operation kOnObject[] = {
    {"read", [](auto& at) { return opens(at, O_RDONLY); }},
    {"write", [](auto& at) { return opens(at, O_WRONLY); }},
    {"append", [](auto& at) { return opens(at, O_WRONLY | O_APPEND); }},
    {"open and truncate", [](auto& at) { return opens(at, O_WRONLY | O_TRUNC); }},
    {"without access time", [](auto& at) { return opens(at, O_RDONLY | O_NOATIME); }},
    {"truncate", [](auto& at) { return ::truncate(at.c_str(), 0); }},
    {"execute",
     [](auto& at) {
       ::execl(at.c_str(), at.c_str(), nullptr);
       return -1L;
     }},
    {"may execute", [](auto& at) { return ::access(at.c_str(), X_OK); }},
    {"may write", [](auto& at) { return ::access(at.c_str(), W_OK); }},
    {"chmod", [](auto& at) { return ::chmod(at.c_str(), 0700); }},
    {"chmod set-id", [](auto& at) { return ::chmod(at.c_str(), 06755); }},
    {"chown", [](auto& at) { return ::lchown(at.c_str(), 1005, -1); }},
    {"chgrp to the own group", [](auto& at) { return ::lchown(at.c_str(), -1, 2999); }},
    {"times", [](auto& at) { return touches(at, kSomeTimes); }},
    {"time of now", [](auto& at) { return touches(at, kNow); }},
    {"set user attribute", [](auto& at) { return sets(at, "user.x"); }},
    {"set trusted attribute", [](auto& at) { return sets(at, "trusted.x"); }},
    {"set security attribute", [](auto& at) { return sets(at, "security.x"); }},
    {"get user attribute", [](auto& at) { return gets(at, "user.there"); }},
    {"get trusted attribute", [](auto& at) { return gets(at, "trusted.there"); }},
    {"get security attribute", [](auto& at) { return gets(at, "security.there"); }},
    {"list attributes", [](auto& at) { return ::llistxattr(at.c_str(), nullptr, 0); }},
    {"remove attribute", [](auto& at) { return ::lremovexattr(at.c_str(), "user.there"); }},
    {"set ACL",
     [](auto& at) {
       const std::string text = acl(7, 7, 7, 7, 7, 7);
       return ::setxattr(at.c_str(), "system.posix_acl_access", text.data(), text.size(), 0);
     }},
    {"remove ACL", [](auto& at) { return ::removexattr(at.c_str(), "system.posix_acl_access"); }},
};

std::string place_of(std::size_t operation, std::size_t user) {
  return std::to_string(operation) + "." + std::to_string(user);
}

void make_directory(const std::string& path, const Guard& how) {
  make_dirs(path + "/dir");
  write_file(path + "/file", "data");
  REQUIRE(::symlink("x", (path + "/link").c_str()) == 0);
  REQUIRE(::chmod((path + "/file").c_str(), 0666) == 0);
  guard(path, how);
}

void make_file(const std::string& path, const Guard& how) {
  // For who may read and execute it.
  write_file(path, "#!/bin/sh\nexit 0\n");
  for (const char* name : {"user.there", "trusted.there", "security.there"}) {
    REQUIRE(::setxattr(path.c_str(), name, "v", 1, 0) == 0);
  }
  guard(path, how);
}

// Each operation of each user has an object of its own: what one does changes nothing for others.
template <std::size_t N>
void check_all(const Operation (&operations)[N], const Guard& how,
               void (*make)(const std::string& path, const Guard& how), const char* end) {
  // By turns, for time: all of it with every guard takes a minute.
  static std::size_t turn = 0;
  const std::string io = io_modes()[turn % io_modes().size()];
  const bool copied_up = turn / 2 % 2 == 1;
  ++turn;
  CAPTURE(io, how.name, copied_up);
  Twin twin([&](const std::string& root) {
    REQUIRE(::chmod(root.c_str(), 0755) == 0);
    for (std::size_t operation = 0; operation < N; ++operation) {
      for (std::size_t user = 0; user < std::size(kUsers); ++user) {
        make(root + "/" + place_of(operation, user), how);
      }
    }
  });
  REQUIRE(::chmod(twin.mount().base().c_str(), 0755) == 0);
  twin.start("--io " + io);
  for (std::size_t operation = 0; operation < N; ++operation) {
    for (std::size_t user = 0; user < std::size(kUsers); ++user) {
      const std::string place = place_of(operation, user);
      if (copied_up) {
        twin.same([&](const std::string& root) { return touches(root + place, kSomeTimes); });
      }
      CAPTURE(operations[operation].name, describe(kUsers[user]));
      twin.alike([&](const std::string& root) {
        return errno_as(kUsers[user],
                        [&] { return operations[operation].call(root + place + end); });
      });
    }
  }
}

}  // namespace

TEST_CASE("in a directory users may do what they may in a plain one, whatever guards it") {
  const auto guard = GENERATE(range(std::size_t{0}, std::size(kGuards)));
  check_all(kInDirectory, kGuards[guard], make_directory, "/");
}

TEST_CASE("with a file users may do what they may with a plain one, whatever guards it") {
  const auto guard = GENERATE(range(std::size_t{1}, std::size(kGuards), std::size_t{2}));
  check_all(kOnObject, kGuards[guard], make_file, "");
}

TEST_CASE("with a directory users may do what they may with a plain one, whatever guards it") {
  const auto guard = GENERATE(range(std::size_t{0}, std::size(kGuards), std::size_t{2}));
  check_all(
      kOnObject, kGuards[guard],
      [](const std::string& path, const Guard& how) {
        make_dirs(path);
        make_file(path + "/in", kGuards[0]);
        for (const char* name : {"user.there", "trusted.there", "security.there"}) {
          REQUIRE(::setxattr(path.c_str(), name, "v", 1, 0) == 0);
        }
        ::guard(path, how);
      },
      "");
}
