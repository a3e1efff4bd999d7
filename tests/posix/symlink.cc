// symlink(2) and readlink(2).
#include <fcntl.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "tests/posix/objects.h"
#include "tests/testlib/files.h"

using namespace layerfs::testing;
using namespace layerfs::testing::posix;

namespace {

std::string symlink_by(const User& user, const char* target, const char* path) {
  return said(by(user, [&] { return ::symlink(target, path); }));
}

std::string target_of(const char* path) {
  char buffer[8192];
  const ssize_t length = ::readlink(path, buffer, sizeof buffer);
  return length < 0 ? said(-1) : std::string(buffer, static_cast<std::size_t>(length));
}

}  // namespace

TEST_CASE("a symbolic link has the caller's ids, and its target's length for a size") {
  const Ground ground([] {
    make_dir("dir", 0777);
    make_dir("of_group", 02777, {0, kTeam, {}});
  });
  CHECK(symlink_by(kMember, "../target", "dir/link") == "ok");
  CHECK(look("dir/link") == "symlink 0777 1003:1003");
  CHECK(stat_of("dir/link").st_size == 9);
  CHECK(target_of("dir/link") == "../target");
  CHECK(symlink_by(kMember, "x", "of_group/link") == "ok");
  CHECK(look("of_group/link") == "symlink 0777 1003:4001");
}

TEST_CASE("a target of any length up to 4095 bytes is kept as it is") {
  const std::size_t lengths[] = {1, 59, 60, 255, 256, 1023, 4094, 4095};
  const Ground ground([&] {
    for (const std::size_t length : lengths) {
      REQUIRE(::symlink(std::string(length, 't').c_str(),
                        ("there" + std::to_string(length)).c_str()) == 0);
    }
  });
  for (const std::size_t length : lengths) {
    CAPTURE(length);
    const std::string target(length, 't');
    const std::string name = "new" + std::to_string(length);
    CHECK(said(::symlink(target.c_str(), name.c_str())) == "ok");
    CHECK(target_of(name.c_str()) == target);
    const std::string there = "there" + std::to_string(length);
    CHECK(target_of(there.c_str()) == target);
    // As copied up.
    CHECK(said(::lchown(there.c_str(), 1, 1)) == "ok");
    CHECK(target_of(there.c_str()) == target);
    CHECK(stat_of(there).st_size == static_cast<off_t>(length));
  }
  CHECK(said(::symlink(std::string(4096, 't').c_str(), "long")) == "ENAMETOOLONG");
  CHECK(said(::symlink("", "empty")) == "ENOENT");
}

TEST_CASE("a link is followed to what it points to, absolute and relative, once and again") {
  const Ground ground([] {
    make_dir("dir");
    write_file("dir/file", "content");
    REQUIRE(::symlink("dir", "to_dir") == 0);
    REQUIRE(::symlink("file", "dir/to_file") == 0);
    REQUIRE(::symlink("to_dir/to_file", "twice") == 0);
    REQUIRE(::symlink("../to_dir/../dir/file", "dir/around") == 0);
  });
  for (const char* path : {"to_dir/file", "dir/to_file", "twice", "dir/around", "to_dir/around"}) {
    CAPTURE(path);
    CHECK(read_file(path) == "content");
  }
  char cwd[4096];
  REQUIRE(::getcwd(cwd, sizeof cwd) != nullptr);
  REQUIRE(::symlink((std::string(cwd) + "/dir/file").c_str(), "absolute") == 0);
  CHECK(read_file("absolute") == "content");
}

TEST_CASE("a link changes the directory's mtime and ctime, and takes no name that is taken") {
  const Ground ground([] {
    make_dir("dir");
    make_all();
  });
  const Watch watch({"dir"});
  REQUIRE(::symlink("target", "dir/link") == 0);
  CHECK(watch.later("dir") == "mc");
  for (const std::string& kind : kinds()) {
    CAPTURE(kind);
    CHECK(said(::symlink("target", kind.c_str())) == "EEXIST");
    CHECK(look(kind).starts_with(kind));
  }
}

TEST_CASE("symlink needs write and search permission for the directory") {
  const Ground ground([] {
    make_dir("readable", 0555, kOwner);
    make_dir("unsearchable", 0666, kOwner);
  });
  CHECK(symlink_by(kOwner, "x", "readable/new") == "EACCES");
  CHECK(symlink_by(kOwner, "x", "unsearchable/new") == "EACCES");
  CHECK(look("readable/new") == "ENOENT");
}

TEST_CASE("what is no symbolic link cannot be read as one, and a short buffer gets the beginning") {
  const Ground ground([] { make_all(); });
  for (const std::string& kind : kinds_but("symlink")) {
    CAPTURE(kind);
    CHECK(target_of(kind.c_str()) == "EINVAL");
  }
  char three[3];
  CHECK(::readlink("symlink", three, sizeof three) == 3);
  CHECK(std::string(three, 3) == "now");
}
