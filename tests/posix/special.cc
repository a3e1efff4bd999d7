// mkfifo(2), mknod(2), and sockets.
#include <fcntl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "tests/posix/objects.h"
#include "tests/testlib/files.h"

using namespace layerfs::testing;
using namespace layerfs::testing::posix;

namespace {

std::string mknod_by(const User& user, const char* path, mode_t mode, dev_t device = 0) {
  return said(by(user, [&] { return ::mknod(path, mode, device); }));
}

}  // namespace

TEST_CASE("a made object has the mode less the umask and the caller's ids, and no data") {
  const Ground ground([] {
    make_dir("dir", 0777);
    make_dir("of_group", 02777, {0, kTeam, {}});
  });
  const std::pair<mode_t, const char*> types[] = {
      {S_IFIFO, "fifo"}, {S_IFSOCK, "socket"}, {S_IFREG, "file"}};
  for (const auto& [type, kind] : types) {
    CAPTURE(kind);
    const std::string name = kind;
    CHECK(said(::mknod((name + "1").c_str(), type | 0755U, 0)) == "ok");
    CHECK(look(name + "1") == name + " 0755 0:0");
    CHECK(stat_of(name + "1").st_size == 0);
    CHECK(stat_of(name + "1").st_nlink == 1);
    CHECK(said(::mknod((name + "2").c_str(), type | 0666U, 0)) == "ok");
    CHECK(look(name + "2") == name + " 0644 0:0");
    CHECK(mknod_by(kMember, ("dir/" + name).c_str(), type | 0600U) == "ok");
    CHECK(look("dir/" + name) == name + " 0600 1003:1003");
    CHECK(mknod_by(kMember, ("of_group/" + name).c_str(), type | 0600U) == "ok");
    CHECK(look("of_group/" + name) == name + " 0600 1003:4001");
  }
}

TEST_CASE("a device keeps its numbers") {
  const Ground ground;
  if (stage().in_user_namespace) {
    CHECK(said(::mknod("device", S_IFCHR | 0644, makedev(1, 3))) == "EPERM");
    return;
  }
  const std::pair<mode_t, dev_t> devices[] = {{S_IFCHR, makedev(1, 3)},
                                              {S_IFBLK, makedev(259, 70000)},
                                              {S_IFCHR, makedev(4095, 1048575)},
                                              {S_IFBLK, makedev(0, 0)}};
  for (const auto& [type, device] : devices) {
    CAPTURE(type, major(device), minor(device));
    CHECK(said(::mknod("device", type | 0644U, device)) == "ok");
    CHECK((stat_of("device").st_mode & S_IFMT) == type);
    CHECK(stat_of("device").st_rdev == device);
    CHECK(said(::chmod("device", 0600)) == "ok");
    CHECK(stat_of("device").st_rdev == device);
    remove("device");
  }
}

TEST_CASE("devices are made by root only, and directories by mknod never") {
  const Ground ground([] { make_dir("dir", 0777); });
  CHECK(mknod_by(kOther, "dir/c", S_IFCHR | 0644, makedev(1, 3)) == "EPERM");
  CHECK(mknod_by(kOther, "dir/b", S_IFBLK | 0644, makedev(7, 1)) == "EPERM");
  CHECK(said(::mknod("dir/d", S_IFDIR | 0755, 0)) == "EPERM");
  CHECK(said(::mknod("dir/l", S_IFLNK | 0755, 0)) == "EINVAL");
}

TEST_CASE("an object that is made changes the times of the directory, and has those of now") {
  const Ground ground([] {
    make_dir("dir");
    make_file("dir/old");
  });
  const Watch watch({"dir", "dir/old"});
  REQUIRE(::mkfifo("dir/fifo", 0644) == 0);
  CHECK(watch.later("dir") == "mc");
  CHECK(watch.later("dir/old", "dir/fifo") == "mc");
  const Watch again({"dir"});
  REQUIRE(::mknod("dir/socket", S_IFSOCK | 0644, 0) == 0);
  CHECK(again.later("dir") == "mc");
}

TEST_CASE("mknod takes no name that is taken, by whatever kind of object") {
  const Ground ground([] { make_all(); });
  for (const std::string& kind : kinds()) {
    CAPTURE(kind);
    CHECK(said(::mkfifo(kind.c_str(), 0644)) == "EEXIST");
    CHECK(said(::mknod(kind.c_str(), S_IFSOCK | 0644, 0)) == "EEXIST");
    CHECK(said(::mknod(kind.c_str(), S_IFREG | 0644, 0)) == "EEXIST");
    CHECK(look(kind).starts_with(kind));
  }
}

TEST_CASE("mknod needs write and search permission for the directory") {
  const Ground ground([] {
    make_dir("readable", 0555, kOwner);
    make_dir("unsearchable", 0666, kOwner);
  });
  for (const mode_t type : {S_IFIFO, S_IFSOCK, S_IFREG}) {
    CAPTURE(type);
    CHECK(mknod_by(kOwner, "readable/new", type | 0644U) == "EACCES");
    CHECK(mknod_by(kOwner, "unsearchable/new", type | 0644U) == "EACCES");
  }
}

TEST_CASE("what is written into a FIFO is read at its other end, under each of its names") {
  const Ground ground([] {
    make("fifo", "fifo");
    REQUIRE(::link("fifo", "second") == 0);
  });
  const int reader = ::open("fifo", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  REQUIRE(::chmod("second", 0600) == 0);
  const int writer = ::open("second", O_WRONLY | O_NONBLOCK | O_CLOEXEC);
  REQUIRE(writer >= 0);
  CHECK(::write(writer, "data", 4) == 4);
  char buffer[8];
  CHECK(::read(reader, buffer, sizeof buffer) == 4);
  ::close(reader);
  ::close(writer);
}
