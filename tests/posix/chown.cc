// chown(2) and lchown(2): owners, who may change them, and what goes with them.
#include <fcntl.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "tests/posix/objects.h"

using namespace layerfs::testing;
using namespace layerfs::testing::posix;

namespace {

constexpr uid_t kSameUser = static_cast<uid_t>(-1);
constexpr gid_t kSameGroup = static_cast<gid_t>(-1);

}  // namespace

TEST_CASE("root gives every kind of object to any owner and group, or one of both") {
  const Ground ground([] { make_all(); });
  for (const std::string& kind : kinds()) {
    CAPTURE(kind);
    const std::string before = look(kind).substr(0, look(kind).rfind(' ') + 1);
    CHECK(said(::lchown(kind.c_str(), 123, 456)) == "ok");
    CHECK(look(kind) == before + "123:456");
    CHECK(said(::lchown(kind.c_str(), 0, kSameGroup)) == "ok");
    CHECK(look(kind) == before + "0:456");
    CHECK(said(::lchown(kind.c_str(), kSameUser, 0)) == "ok");
    CHECK(look(kind) == before + "0:0");
    CHECK(said(::lchown(kind.c_str(), 65534, 65533)) == "ok");
    CHECK(said(::lchown(kind.c_str(), kSameUser, kSameGroup)) == "ok");
    CHECK(look(kind) == before + "65534:65533");
  }
}

TEST_CASE("chown follows a symbolic link and lchown changes the link itself") {
  const Ground ground([] {
    make_file("file");
    make_dir("dir");
    REQUIRE(::symlink("file", "to_file") == 0);
    REQUIRE(::symlink("dir", "to_dir") == 0);
  });
  CHECK(said(::chown("to_file", 5, 6)) == "ok");
  CHECK(said(::chown("to_dir", 7, 8)) == "ok");
  CHECK(look("file") == "file 0644 5:6");
  CHECK(look("dir") == "directory 0755 7:8");
  CHECK(look("to_file") == "symlink 0777 0:0");
  CHECK(said(::lchown("to_file", 9, 10)) == "ok");
  CHECK(look("to_file") == "symlink 0777 9:10");
  CHECK(look("file") == "file 0644 5:6");
}

TEST_CASE("an owner set by one name is seen by the other names of the object", "[S-08]") {
  const Ground ground([] {
    for (const std::string& kind : kinds_but("directory")) {
      make(kind, kind);
      REQUIRE(::link(kind.c_str(), (kind + "2").c_str()) == 0);
    }
  });
  for (const std::string& kind : kinds_but("directory")) {
    CAPTURE(kind);
    CHECK(said(::lchown((kind + "2").c_str(), 123, 456)) == "ok");
    CHECK(look(kind + "2").ends_with("123:456"));
    CHECK(look(kind).ends_with(copied_up_together(kind) ? "123:456" : "0:0"));
  }
}

TEST_CASE("the owner may give an object to a group of his own, and to nobody else") {
  const User owner{1001, 1001, {kTeam}};
  const Ground ground([&] { make_all(0644, owner); });
  for (const std::string& kind : kinds()) {
    CAPTURE(kind);
    const auto chown_by = [&](const User& user, uid_t uid, gid_t gid) {
      return said(by(user, [&] { return ::lchown(kind.c_str(), uid, gid); }));
    };
    CHECK(chown_by(owner, kSameUser, kTeam) == "ok");
    CHECK(look(kind).ends_with("1001:4001"));
    CHECK(chown_by(owner, 1001, 1001) == "ok");
    CHECK(look(kind).ends_with("1001:1001"));
    CHECK(chown_by(owner, kSameUser, 4002) == "EPERM");
    CHECK(chown_by(owner, 1002, kSameGroup) == "EPERM");
    CHECK(chown_by(owner, 0, 1001) == "EPERM");
    CHECK(chown_by({1002, 1001, {}}, kSameUser, 1001) == "EPERM");
    CHECK(chown_by(kOther, 1002, 1002) == "EPERM");
    CHECK(chown_by({1003, 1003, {kTeam}}, kSameUser, kTeam) == "EPERM");
    CHECK(look(kind).ends_with("1001:1001"));
  }
}

TEST_CASE(
    "a change of owner takes the set-id bits of what can be executed off, but not a directory's") {
  const Ground ground([] { make_all(0755, kOwner); });
  const User owner{1001, 1001, {kTeam}};
  for (const std::string& kind : kinds_but("symlink")) {
    CAPTURE(kind);
    const mode_t left = kind == "directory" ? 06555 : 0555;
    REQUIRE(::chmod(kind.c_str(), 06555) == 0);
    CHECK(said(by(owner, [&] { return ::chown(kind.c_str(), kSameUser, kTeam); })) == "ok");
    CHECK(mode_of(kind) == left);
    REQUIRE(::chmod(kind.c_str(), 06555) == 0);
    CHECK(said(::chown(kind.c_str(), 1001, 1001)) == "ok");
    CHECK(mode_of(kind) == left);
  }
}

TEST_CASE("a successful chown changes ctime, a refused one does not, and none changes mtime") {
  const Ground ground([] { make_all(0644, kOwner); });
  const Watch refused(kinds());
  for (const std::string& kind : kinds()) {
    CAPTURE(kind);
    CHECK(said(by(kOther, [&] { return ::lchown(kind.c_str(), 1002, 1002); })) == "EPERM");
    CHECK(refused.later(kind).empty());
  }
  const Watch by_root(kinds());
  for (const std::string& kind : kinds()) {
    CAPTURE(kind);
    REQUIRE(::lchown(kind.c_str(), 1001, kTeam) == 0);
    CHECK(by_root.later(kind) == "c");
  }
  const Watch by_owner(kinds());
  for (const std::string& kind : kinds()) {
    CAPTURE(kind);
    REQUIRE(by(kOwner, [&] { return ::lchown(kind.c_str(), kSameUser, 1001); }) == 0);
    CHECK(by_owner.later(kind) == "c");
  }
}

TEST_CASE("fchown changes the owner by a descriptor, also of one unlinked") {
  const Ground ground([] { make_file("file"); });
  const int fd = ::open("file", O_RDONLY | O_CLOEXEC);
  REQUIRE(fd >= 0);
  CHECK(said(::fchown(fd, 11, 12)) == "ok");
  CHECK(look("file") == "file 0644 11:12");
  REQUIRE(::unlink("file") == 0);
  CHECK(said(::fchown(fd, 13, 14)) == "ok");
  struct stat st = {};
  CHECK(::fstat(fd, &st) == 0);
  CHECK(st.st_uid == 13);
  CHECK(st.st_gid == 14);
  ::close(fd);
}
