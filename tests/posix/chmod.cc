// chmod(2): modes, who may change them, and what goes with them.
#include <fcntl.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "tests/posix/objects.h"

using namespace layerfs::testing;
using namespace layerfs::testing::posix;

TEST_CASE("chmod changes the mode of every kind of object, and its kind and owner not") {
  const Ground ground([] { make_all(0644, kOwner); });
  for (const std::string& kind : kinds_but("symlink")) {
    for (const mode_t mode : {0111U, 0U, 0777U, 01751U, 02640U, 04711U, 07777U}) {
      CAPTURE(kind, mode);
      CHECK(said(::chmod(kind.c_str(), mode)) == "ok");
      CHECK(mode_of(kind) == mode);
    }
    CHECK(look(kind) == kind + " 7777 1001:1001");
  }
}

TEST_CASE("chmod of a symbolic link changes what it points to, and the link not") {
  const Ground ground([] {
    make_file("file");
    make_dir("dir");
    REQUIRE(::symlink("file", "to_file") == 0);
    REQUIRE(::symlink("dir", "to_dir") == 0);
  });
  CHECK(said(::chmod("to_file", 0600)) == "ok");
  CHECK(said(::chmod("to_dir", 0700)) == "ok");
  CHECK(look("file") == "file 0600 0:0");
  CHECK(look("dir") == "directory 0700 0:0");
  CHECK(look("to_file") == "symlink 0777 0:0");
  CHECK(said(::fchmodat(AT_FDCWD, "to_file", 0640, AT_SYMLINK_NOFOLLOW)) == "EOPNOTSUPP");
}

TEST_CASE("fchmod changes the mode by a descriptor, also of one opened before and unlinked") {
  const Ground ground([] { make_file("file"); });
  const int fd = ::open("file", O_RDONLY | O_CLOEXEC);
  REQUIRE(fd >= 0);
  CHECK(said(::fchmod(fd, 0600)) == "ok");
  CHECK(look("file") == "file 0600 0:0");
  REQUIRE(::unlink("file") == 0);
  CHECK(said(::fchmod(fd, 0640)) == "ok");
  struct stat st = {};
  CHECK(::fstat(fd, &st) == 0);
  CHECK((st.st_mode & 07777U) == 0640);
  ::close(fd);
}

TEST_CASE("a mode set by one name is seen by the other names of the object", "[S-08]") {
  const Ground ground([] {
    for (const std::string& kind : kinds_but("directory")) {
      make(kind, kind);
      REQUIRE(::link(kind.c_str(), (kind + "2").c_str()) == 0);
    }
  });
  for (const std::string& kind : kinds_but("directory")) {
    if (kind != "symlink") {
      CAPTURE(kind);
      CHECK(said(::chmod(kind.c_str(), 0201)) == "ok");
      CHECK(look(kind + "2") == kind + (copied_up_together(kind) ? " 0201 0:0" : " 0644 0:0"));
    }
  }
}

TEST_CASE("the owner and root may change the mode, nobody else, whatever the mode allows") {
  const Ground ground([] { make_all(0777, kOwner); });
  for (const std::string& kind : kinds_but("symlink")) {
    CAPTURE(kind);
    const auto chmod_by = [&](const User& user, mode_t mode) {
      return said(by(user, [&] { return ::chmod(kind.c_str(), mode); }));
    };
    CHECK(chmod_by(kOther, 0700) == "EPERM");
    CHECK(chmod_by({1002, kOwner.gid, {}}, 0700) == "EPERM");
    CHECK(mode_of(kind) == 0777);
    CHECK(chmod_by(kOwner, 0700) == "ok");
    CHECK(mode_of(kind) == 0700);
    CHECK(chmod_by({kOwner.uid, 1002, {}}, 0750) == "ok");
    CHECK(mode_of(kind) == 0750);
  }
}

TEST_CASE("a successful chmod changes ctime, a refused one and none changes mtime") {
  const Ground ground([] { make_all(0644, kOwner); });
  const Watch refused(kinds());
  for (const std::string& kind : kinds_but("symlink")) {
    CHECK(said(by(kOther, [&] { return ::chmod(kind.c_str(), 0600); })) == "EPERM");
    CAPTURE(kind);
    CHECK(refused.later(kind).empty());
  }
  const Watch watch(kinds());
  for (const std::string& kind : kinds_but("symlink")) {
    REQUIRE(::chmod(kind.c_str(), 0600) == 0);
    CAPTURE(kind);
    CHECK(watch.later(kind) == "c");
  }
}

TEST_CASE("set-group-id is taken off if the owner is not of the file's group") {
  const User owner{1001, 1001, {kTeam}};
  const Ground ground([&] {
    make_all(0644, {owner.uid, 1002, {}});
    make("file", "of_team", 0644, {owner.uid, kTeam, {}});
  });
  for (const std::string& kind : kinds_but("symlink")) {
    CAPTURE(kind);
    CHECK(said(by(owner, [&] { return ::chmod(kind.c_str(), 02755); })) == "ok");
    CHECK(mode_of(kind) == 0755);
    CHECK(said(by(owner, [&] { return ::chmod(kind.c_str(), 04755); })) == "ok");
    CHECK(mode_of(kind) == 04755);
  }
  CHECK(said(by(owner, [] { return ::chmod("of_team", 02755); })) == "ok");
  CHECK(mode_of("of_team") == 02755);
}

TEST_CASE("the sticky bit may be set on any kind of object by its owner") {
  const Ground ground([] { make_all(0644, kOwner); });
  for (const std::string& kind : kinds_but("symlink")) {
    CAPTURE(kind);
    CHECK(said(by(kOwner, [&] { return ::chmod(kind.c_str(), 01644); })) == "ok");
    CHECK(mode_of(kind) == 01644);
  }
}

TEST_CASE("a write by one who is not root takes the set-id bits off") {
  const Ground ground([] {
    for (const char* name : {"4777", "2777", "6777", "6777 by root"}) {
      make_file(name);
    }
  });
  const auto write_to = [](const char* name) {
    return [name] {
      const int fd = ::open(name, O_WRONLY | O_CLOEXEC);
      const long written = fd < 0 ? -1 : ::write(fd, "x", 1);
      ::close(fd);
      return written;
    };
  };
  REQUIRE(::chmod("4777", 04777) == 0);
  REQUIRE(::chmod("2777", 02777) == 0);
  REQUIRE(::chmod("6777", 06777) == 0);
  REQUIRE(::chmod("6777 by root", 06777) == 0);
  for (const char* name : {"4777", "2777", "6777"}) {
    CAPTURE(name);
    CHECK(by(kOther, write_to(name)) == 1);
    CHECK(mode_of(name) == 0777);
  }
  CHECK(write_to("6777 by root")() == 1);
  // To keep them takes the capability of the machine's root.
  CHECK(mode_of("6777 by root") == (stage().in_user_namespace ? 0777 : 06777));
}
