// unlink(2).
#include <fcntl.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "tests/posix/objects.h"
#include "tests/testlib/files.h"

using namespace layerfs::testing;
using namespace layerfs::testing::posix;

namespace {

std::string unlink_by(const User& user, const std::string& path) {
  return said(by(user, [&] { return ::unlink(path.c_str()); }));
}

}  // namespace

TEST_CASE("unlink removes every kind of object but a directory, and its name can be taken again") {
  const Ground ground([] { make_all(); });
  CHECK(said(::unlink("directory")) == "EISDIR");
  for (const std::string& kind : kinds_but("directory")) {
    CAPTURE(kind);
    CHECK(said(::unlink(kind.c_str())) == "ok");
    CHECK(look(kind) == "ENOENT");
    CHECK(said(::unlink(kind.c_str())) == "ENOENT");
  }
  CHECK(names_in(".") == std::vector<std::string>{"directory"});
  for (const std::string& kind : kinds_but("directory")) {
    make(kind, kind, 0600);
    CHECK(look(kind).starts_with(kind));
  }
}

TEST_CASE("unlink changes the times of the directory and the ctime of other names' object",
          "[S-08]") {
  const Ground ground([] {
    make_dir("dir");
    for (const std::string& kind : kinds_but("directory")) {
      make(kind, "dir/" + kind);
      REQUIRE(::link(("dir/" + kind).c_str(), kind.c_str()) == 0);
    }
  });
  for (const std::string& kind : kinds_but("directory")) {
    CAPTURE(kind);
    const Watch watch({"dir", kind});
    REQUIRE(::unlink(("dir/" + kind).c_str()) == 0);
    CHECK(watch.later("dir") == "mc");
    if (copied_up_together(kind)) {
      CHECK(watch.later(kind) == "c");
      CHECK(stat_of(kind).st_nlink == 1);
    }
  }
}

TEST_CASE("a refused unlink changes no times") {
  const Ground ground([] {
    make_dir("dir");
    make_file("dir/file");
  });
  const Watch watch({"dir", "dir/file"});
  CHECK(unlink_by(kOther, "dir/file") == "EACCES");
  CHECK(watch.later("dir").empty());
  CHECK(watch.later("dir/file").empty());
}

TEST_CASE("unlink needs write and search permission for the directory, and none for the object") {
  const Ground ground([] {
    make_dir("mine", 0755, kOwner);
    make_dir("readable", 0555, kOwner);
    make_dir("unsearchable", 0666, kOwner);
    for (const std::string& kind : kinds_but("directory")) {
      make(kind, "mine/" + kind, 0, kRoot);
      make(kind, "readable/" + kind, 0666, kOwner);
      make(kind, "unsearchable/" + kind, 0666, kOwner);
    }
  });
  for (const std::string& kind : kinds_but("directory")) {
    CAPTURE(kind);
    CHECK(unlink_by(kOther, "mine/" + kind) == "EACCES");
    CHECK(unlink_by(kOwner, "readable/" + kind) == "EACCES");
    CHECK(unlink_by(kOwner, "unsearchable/" + kind) == "EACCES");
    CHECK(unlink_by(kOwner, "mine/" + kind) == "ok");
  }
}

TEST_CASE("from a sticky directory its owner, the object's and root remove it, nobody else") {
  const Ground ground([] {
    make_dir("sticky", 01777, kOwner);
    for (const std::string& kind : kinds_but("directory")) {
      make(kind, "sticky/1" + kind, 0777, kOther);
      make(kind, "sticky/2" + kind, 0777, kOther);
      make(kind, "sticky/3" + kind, 0777, kOther);
      make(kind, "sticky/roots_" + kind, 0777, kRoot);
    }
  });
  for (const std::string& kind : kinds_but("directory")) {
    CAPTURE(kind);
    CHECK(unlink_by(kMember, "sticky/1" + kind) == "EPERM");
    CHECK(unlink_by(kOther, "sticky/roots_" + kind) == "EPERM");
    CHECK(unlink_by(kOther, "sticky/1" + kind) == "ok");
    CHECK(unlink_by(kOwner, "sticky/2" + kind) == "ok");
    CHECK(unlink_by(kRoot, "sticky/3" + kind) == "ok");
    CHECK(unlink_by(kOwner, "sticky/roots_" + kind) == "ok");
  }
}

TEST_CASE("who has a file open reads and writes it after its last name is gone") {
  const Ground ground([] { write_file("file", "content"); });
  const int fd = ::open("file", O_RDWR | O_CLOEXEC);
  REQUIRE(fd >= 0);
  REQUIRE(::unlink("file") == 0);
  struct stat st = {};
  CHECK(::fstat(fd, &st) == 0);
  CHECK(st.st_nlink == 0);
  CHECK(st.st_size == 7);
  CHECK(::pwrite(fd, "more", 4, 7) == 4);
  char buffer[16] = {};
  CHECK(::pread(fd, buffer, sizeof buffer, 0) == 11);
  CHECK(std::string(buffer) == "contentmore");
  CHECK(said(::ftruncate(fd, 2)) == "ok");
  CHECK(::fstat(fd, &st) == 0);
  CHECK(st.st_size == 2);
  ::close(fd);
  CHECK(names_in(".").empty());
}

TEST_CASE("unlink of a link leaves what it points to") {
  const Ground ground([] {
    make_file("file");
    make_dir("dir");
    REQUIRE(::symlink("file", "to_file") == 0);
    REQUIRE(::symlink("dir", "to_dir") == 0);
  });
  CHECK(said(::unlink("to_file")) == "ok");
  CHECK(said(::unlink("to_dir/")) == "ENOTDIR");
  CHECK(said(::unlink("to_dir")) == "ok");
  CHECK(names_in(".") == std::vector<std::string>{"dir", "file"});
}
