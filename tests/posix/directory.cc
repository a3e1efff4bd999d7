// mkdir(2) and rmdir(2).
#include <fcntl.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "tests/posix/objects.h"
#include "tests/testlib/files.h"

using namespace layerfs::testing;
using namespace layerfs::testing::posix;

namespace {

std::string mkdir_by(const User& user, const char* path, mode_t mode = 0755) {
  return said(by(user, [&] { return ::mkdir(path, mode); }));
}
std::string rmdir_by(const User& user, const char* path) {
  return said(by(user, [&] { return ::rmdir(path); }));
}

}  // namespace

TEST_CASE("a new directory has the mode less the umask, the caller's ids and two links") {
  const Ground ground([] {
    make_dir("dir", 0777);
    make_dir("of_group", 02777, {0, kTeam, {}});
  });
  for (const mode_t mode : {0755U, 0151U, 0700U, 01777U}) {
    CHECK(said(::mkdir("new", mode)) == "ok");
    CHECK(mode_of("new") == (mode & ~022U));
    CHECK(stat_of("new").st_nlink == 2);
    CHECK(names_in("new").empty());
    CHECK(said(::rmdir("new")) == "ok");
  }
  CHECK(mkdir_by(kMember, "dir/new") == "ok");
  CHECK(look("dir/new") == "directory 0755 1003:1003");
  CHECK(mkdir_by(kMember, "of_group/new") == "ok");
  CHECK(look("of_group/new") == "directory 2755 1003:4001");
}

TEST_CASE("making and removing a directory changes the times and the links of the one above",
          "[better-than-overlay]") {
  const Ground ground([] {
    make_dir("above");
    make_dir("above/there");
  });
  const Watch making({"above", "above/there"});
  const auto links = stat_of("above").st_nlink;
  CHECK(said(::mkdir("above/new", 0755)) == "ok");
  CHECK(making.later("above") == "mc");
  CHECK(making.later("above/there", "above/new") == "mc");
  CHECK(making.later("above/there").empty());
  CHECK(stat_of("above").st_nlink == links + 1);
  const Watch removing({"above"});
  CHECK(said(::rmdir("above/there")) == "ok");
  CHECK(removing.later("above") == "mc");
  CHECK(stat_of("above").st_nlink == links);
  CHECK(said(::rmdir("above/new")) == "ok");
  CHECK(stat_of("above").st_nlink == links - 1);
  CHECK(names_in("above").empty());
}

TEST_CASE("refused, mkdir and rmdir change no times") {
  const Ground ground([] {
    make_dir("above");
    make_dir("above/full");
    make_file("above/full/file");
  });
  const Watch watch({"above", "above/full"});
  CHECK(said(::mkdir("above/full", 0755)) == "EEXIST");
  CHECK(said(::rmdir("above/full")) == "ENOTEMPTY");
  CHECK(mkdir_by(kOther, "above/new") == "EACCES");
  CHECK(rmdir_by(kOther, "above/full") == "EACCES");
  CHECK(watch.later("above").empty());
  CHECK(watch.later("above/full").empty());
}

TEST_CASE("mkdir takes no name that is taken, by whatever kind of object") {
  const Ground ground([] { make_all(); });
  for (const std::string& kind : kinds()) {
    CAPTURE(kind);
    CHECK(said(::mkdir(kind.c_str(), 0755)) == "EEXIST");
    CHECK(look(kind).starts_with(kind));
  }
  CHECK(said(::mkdir(".", 0755)) == "EEXIST");
  CHECK(said(::mkdir("..", 0755)) == "EEXIST");
}

TEST_CASE("rmdir removes directories only, and only empty ones") {
  const Ground ground([] {
    make_all();
    for (const std::string& kind : kinds()) {
      make_dir("with_" + kind);
      make(kind, "with_" + kind + "/in");
    }
    REQUIRE(::symlink("directory", "to_dir") == 0);
  });
  for (const std::string& kind : kinds()) {
    CAPTURE(kind);
    const std::string full = "with_" + kind;
    CHECK(said(::rmdir(kind.c_str())) == (kind == "directory" ? "ok" : "ENOTDIR"));
    CHECK(said(::rmdir(full.c_str())) == "ENOTEMPTY");
    remove(full + "/in");
    CHECK(said(::rmdir(full.c_str())) == "ok");
    CHECK(look(full) == "ENOENT");
  }
  CHECK(said(::rmdir("to_dir")) == "ENOTDIR");
}

TEST_CASE("rmdir refuses . and .., and a name with slashes at its end is the directory") {
  const Ground ground([] {
    make_dir("dir");
    make_dir("dir/in");
  });
  CHECK(said(::rmdir("dir/in/.")) == "EINVAL");
  CHECK(said(::rmdir("dir/in/..")) == "ENOTEMPTY");
  CHECK(said(::rmdir("dir/in///")) == "ok");
  CHECK(said(::mkdir("dir/again/", 0755)) == "ok");
}

TEST_CASE("both need write permission for the directory above, and search permission") {
  const Ground ground([] {
    make_dir("mine", 0755, kOwner);
    make_dir("mine/in", 0755, kOwner);
    make_dir("unsearchable", 0666, kOwner);
    make_dir("unsearchable/in", 0755, kOwner);
  });
  CHECK(mkdir_by(kOther, "mine/new") == "EACCES");
  CHECK(rmdir_by(kOther, "mine/in") == "EACCES");
  CHECK(mkdir_by(kOwner, "unsearchable/new") == "EACCES");
  CHECK(rmdir_by(kOwner, "unsearchable/in") == "EACCES");
  CHECK(mkdir_by(kOwner, "mine/new") == "ok");
  CHECK(rmdir_by(kOwner, "mine/in") == "ok");
}

TEST_CASE("in a sticky directory its owner, root and a directory's owner remove it, nobody else") {
  const Ground ground([] {
    make_dir("sticky", 01777, kOwner);
    for (const char* name : {"sticky/a", "sticky/b", "sticky/c"}) {
      make_dir(name, 0777, kOther);
    }
    make_dir("sticky/roots", 0777);
  });
  CHECK(rmdir_by(kMember, "sticky/a") == "EPERM");
  CHECK(rmdir_by(kOther, "sticky/roots") == "EPERM");
  CHECK(rmdir_by(kOther, "sticky/a") == "ok");
  CHECK(rmdir_by(kOwner, "sticky/b") == "ok");
  CHECK(rmdir_by(kRoot, "sticky/c") == "ok");
}

TEST_CASE("a directory that was removed while it is somebody's takes no new names",
          "[better-than-overlay]") {
  const Ground ground([] { make_dir("dir"); });
  const int fd = ::open("dir", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  REQUIRE(fd >= 0);
  REQUIRE(::rmdir("dir") == 0);
  CHECK(said(::mkdirat(fd, "in", 0755)) == "ENOENT");
  CHECK(said(::openat(fd, "in", O_CREAT | O_WRONLY | O_CLOEXEC, 0644)) == "ENOENT");
  struct stat st = {};
  CHECK(::fstat(fd, &st) == 0);
  CHECK(st.st_nlink == 0);
  REQUIRE(::mkdir("dir", 0755) == 0);
  CHECK(said(::mkdirat(fd, "in", 0755)) == "ENOENT");
  CHECK(names_in("dir").empty());
  ::close(fd);
}
