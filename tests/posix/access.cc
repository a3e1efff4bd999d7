// Who may do what by the modes: owner, group, supplementary groups, others, root.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "tests/posix/objects.h"
#include "tests/testlib/files.h"

using namespace layerfs::testing;
using namespace layerfs::testing::posix;

namespace {

// The rwx bits of `mode` that are for `user`, of an object of kOwner and its group.
unsigned bits_for(const User& user, mode_t mode) {
  if (user.uid == kOwner.uid) {
    return mode >> 6U & 7U;
  }
  bool in_group = user.gid == kOwner.gid;
  for (const gid_t group : user.groups) {
    in_group |= group == kOwner.gid;
  }
  return in_group ? mode >> 3U & 7U : mode & 7U;
}

const User kUsers[] = {kOwner,
                       {kOwner.uid, 1002, {}},
                       {1002, kOwner.gid, {}},
                       {1002, 1002, {5, 6, kOwner.gid}},
                       {1002, 1002, {5, 6, 7}},
                       kOther};

const mode_t kModes[] = {0777, 0700, 0070, 0007, 0421, 0142, 0214, 0650, 0065, 0506, 0000};

}  // namespace

TEST_CASE("access(2) allows what the bits for the user allow, for every kind of object") {
  const Ground ground([] { make_all(0644, kOwner); });
  for (const std::string& kind : kinds_but("symlink")) {
    for (const mode_t mode : kModes) {
      REQUIRE(::chmod(kind.c_str(), mode) == 0);
      for (const User& user : kUsers) {
        for (const unsigned asked : {1U, 2U, 4U, 6U, 7U}) {
          CAPTURE(kind, mode, describe(user), asked);
          const bool allowed = (bits_for(user, mode) & asked) == asked;
          CHECK(said(by(user, [&] { return ::access(kind.c_str(), static_cast<int>(asked)); })) ==
                (allowed ? "ok" : "EACCES"));
        }
      }
    }
  }
}

TEST_CASE("root reads and writes whatever the mode, and executes what somebody may") {
  const Ground ground([] {
    make_file("none", 0);
    make_file("one", 0001, kOther);
    make_dir("dir", 0);
    make_file("dir/in", 0);
  });
  CHECK(said(::access("none", R_OK | W_OK)) == "ok");
  CHECK(said(::access("none", X_OK)) == "EACCES");
  CHECK(said(::access("one", X_OK)) == "ok");
  CHECK(said(::access("dir", R_OK | W_OK | X_OK)) == "ok");
  CHECK(try_open("dir/in", O_RDWR) == "ok");
  CHECK(try_open("dir/new", O_CREAT | O_WRONLY) == "ok");
}

TEST_CASE(
    "a directory is listed by who may read it, entered by who may search it, changed by who may "
    "both") {
  const Ground ground([] {
    for (const mode_t mode : kModes) {
      const std::string dir = std::to_string(mode);
      make_dir(dir, 0755, kOwner);
      make_file(dir + "/in", 0666, kOwner);
      REQUIRE(::chmod(dir.c_str(), mode) == 0);
    }
  });
  for (const mode_t mode : kModes) {
    const std::string dir = std::to_string(mode);
    for (const User& user : kUsers) {
      CAPTURE(mode, describe(user));
      const unsigned bits = bits_for(user, mode);
      const auto expected = [](bool allowed) { return allowed ? "ok" : "EACCES"; };
      const auto here = [&](const std::function<long()>& call) { return said(by(user, call)); };
      struct stat st = {};
      CHECK(here([&] {
              DIR* listed = ::opendir(dir.c_str());
              return listed == nullptr ? -1 : ::closedir(listed);
            }) == expected((bits & 4U) != 0));
      CHECK(here([&] { return ::stat((dir + "/in").c_str(), &st); }) == expected((bits & 1U) != 0));
      const bool may_change = (bits & 3U) == 3U;
      CHECK(here([&] { return ::mkdir((dir + "/new").c_str(), 0755); }) == expected(may_change));
      CHECK(here([&] { return ::rename((dir + "/in").c_str(), (dir + "/new2").c_str()); }) ==
            expected(may_change));
      CHECK(here([&] { return ::rename((dir + "/new2").c_str(), (dir + "/in").c_str()); }) ==
            (may_change         ? "ok"
             : (bits & 1U) != 0 ? "ENOENT"
                                : "EACCES"));
      CHECK(here([&] { return ::rmdir((dir + "/new").c_str()); }) == (may_change ? "ok"
                                                                      : (bits & 1U) != 0
                                                                          ? "ENOENT"
                                                                          : "EACCES"));
    }
  }
}

TEST_CASE("a program is run by who may execute it") {
  const Ground ground([] {
    write_file("program", "#!/bin/sh\nexit 0\n");
    REQUIRE(::chown("program", kOwner.uid, kOwner.gid) == 0);
  });
  for (const mode_t mode : {0555U, 0455U, 0545U, 0554U, 0444U}) {
    REQUIRE(::chmod("program", mode) == 0);
    for (const User& user : kUsers) {
      CAPTURE(mode, describe(user));
      const bool allowed = (bits_for(user, mode) & 1U) != 0;
      const int error = errno_as(user, [] {
        ::execl("program", "program", nullptr);
        return -1L;
      });
      CHECK(error == (allowed ? 0 : EACCES));
    }
  }
}

TEST_CASE("a change of mode counts at once, for who was refused before and who was not") {
  const Ground ground([] { make_file("file", 0600, kOwner); });
  const auto open_by_other = [] {
    return said(by(kOther, [] {
      const int fd = ::open("file", O_RDONLY | O_CLOEXEC);
      return fd < 0 ? -1L : ::close(fd);
    }));
  };
  CHECK(open_by_other() == "EACCES");
  REQUIRE(::chmod("file", 0604) == 0);
  CHECK(open_by_other() == "ok");
  REQUIRE(::chmod("file", 0600) == 0);
  CHECK(open_by_other() == "EACCES");
  REQUIRE(::chown("file", kOther.uid, kOther.gid) == 0);
  CHECK(open_by_other() == "ok");
}
