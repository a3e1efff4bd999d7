// link(2): several names of one object.
#include <fcntl.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "tests/posix/objects.h"
#include "tests/testlib/files.h"

using namespace layerfs::testing;
using namespace layerfs::testing::posix;

namespace {

std::string link_by(const User& user, const char* from, const char* to) {
  return said(by(user, [&] { return ::link(from, to); }));
}

}  // namespace

TEST_CASE("all names of an object are the same, and are counted") {
  const Ground ground([] { make_all(); });
  for (const std::string& kind : kinds_but("directory")) {
    CAPTURE(kind);
    const std::string second = kind + "2";
    const std::string third = kind + "3";
    CHECK(stat_of(kind).st_nlink == 1);
    CHECK(said(::link(kind.c_str(), second.c_str())) == "ok");
    CHECK(said(::link(second.c_str(), third.c_str())) == "ok");
    for (const std::string& name : {kind, second, third}) {
      CHECK(stat_of(name).st_nlink == 3);
      CHECK(stat_of(name).st_ino == stat_of(kind).st_ino);
      CHECK(look(name) == look(kind));
    }
    CHECK(said(::unlink(kind.c_str())) == "ok");
    CHECK(look(kind) == "ENOENT");
    CHECK(stat_of(second).st_nlink == 2);
    CHECK(said(::unlink(third.c_str())) == "ok");
    CHECK(stat_of(second).st_nlink == 1);
  }
}

TEST_CASE("what is written by one name is read by another, also by one that was there before") {
  const Ground ground([] {
    write_file("a", "old");
    REQUIRE(::link("a", "b") == 0);
  });
  CHECK(read_file("b") == "old");
  write_file("a", "new");
  CHECK(read_file("b") == "new");
  REQUIRE(::link("b", "c") == 0);
  write_file("c", "newer");
  CHECK(read_file("a") == "newer");
  CHECK(stat_of("a").st_nlink == 3);
}

TEST_CASE("a link changes the object's ctime and the directory's mtime and ctime") {
  const Ground ground([] {
    make_all();
    make_dir("dir");
  });
  std::vector<std::string> watched = kinds();
  watched.emplace_back("dir");
  const Watch watch(watched);
  for (const std::string& kind : kinds_but("directory")) {
    CAPTURE(kind);
    CHECK(said(::link(kind.c_str(), ("dir/" + kind).c_str())) == "ok");
    CHECK(watch.later(kind) == "c");
  }
  CHECK(watch.later("dir") == "mc");
}

TEST_CASE("a refused link changes no times") {
  const Ground ground([] {
    make_file("file", 0644, kOwner);
    make_dir("dir", 0755, kRoot);
  });
  const Watch watch({"file", "dir"});
  CHECK(link_by(kOwner, "file", "dir/file") == "EACCES");
  CHECK(watch.later("file").empty());
  CHECK(watch.later("dir").empty());
}

TEST_CASE("a link takes no name that is taken, by whatever kind of object") {
  const Ground ground([] {
    make_all();
    make_file("from");
  });
  for (const std::string& kind : kinds()) {
    CAPTURE(kind);
    CHECK(said(::link("from", kind.c_str())) == "EEXIST");
    CHECK(look(kind).starts_with(kind));
  }
  CHECK(stat_of("from").st_nlink == 1);
  CHECK(said(::link("from", "from")) == "EEXIST");
}

TEST_CASE("directories have no second name, not even by root") {
  const Ground ground([] { make_dir("dir", 0777, kOwner); });
  CHECK(said(::link("dir", "dir2")) == "EPERM");
  CHECK(link_by(kOwner, "dir", "dir/dir2") == "EPERM");
  CHECK(look("dir2") == "ENOENT");
}

TEST_CASE("a link needs write permission for the directory and search permission on both ways") {
  const Ground ground([] {
    make_dir("mine", 0755, kOwner);
    make_dir("roots", 0755);
    make_dir("unsearchable", 0666, kOwner);
    make_file("mine/file", 0644, kOwner);
    make_file("unsearchable/file", 0644, kOwner);
  });
  CHECK(link_by(kOwner, "mine/file", "roots/file") == "EACCES");
  CHECK(link_by(kOwner, "mine/file", "unsearchable/new") == "EACCES");
  CHECK(link_by(kOwner, "unsearchable/file", "mine/new") == "EACCES");
  CHECK(link_by(kOwner, "mine/file", "mine/new") == "ok");
  CHECK(stat_of("mine/file").st_nlink == 2);
}

TEST_CASE("link does not follow a symbolic link, linkat does if it is told") {
  const Ground ground([] {
    make_file("file");
    REQUIRE(::symlink("file", "symlink") == 0);
  });
  CHECK(said(::link("symlink", "second")) == "ok");
  CHECK(look("second") == "symlink 0777 0:0");
  CHECK(said(::linkat(AT_FDCWD, "symlink", AT_FDCWD, "third", AT_SYMLINK_FOLLOW)) == "ok");
  CHECK(stat_of("third").st_ino == stat_of("file").st_ino);
}

TEST_CASE("an object whose last name is gone cannot be linked again") {
  const Ground ground([] { make_file("file"); });
  const int fd = ::open("file", O_RDONLY | O_CLOEXEC);
  REQUIRE(fd >= 0);
  REQUIRE(::unlink("file") == 0);
  const std::string path = "/proc/self/fd/" + std::to_string(fd);
  CHECK(said(::linkat(AT_FDCWD, path.c_str(), AT_FDCWD, "again", AT_SYMLINK_FOLLOW)) == "ENOENT");
  CHECK(look("again") == "ENOENT");
  ::close(fd);
}
