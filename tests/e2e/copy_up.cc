// What a change of a lower object keeps, what it copies, and what it never writes.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "tests/testlib/test_mount.h"

using namespace layerfs::testing;

namespace {

constexpr timespec kOld = {1000000000, 123456789};

void set_old_times(const std::string& path) {
  const timespec times[2] = {kOld, kOld};
  REQUIRE(::utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW) == 0);
}

}  // namespace

TEST_CASE("copy-up by chmod keeps type, owner, times, device number and attributes") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  TestMount mount;
  const std::string lower = mount.lower() + "/o";
  bool has_user_xattrs = false;
  SECTION("file") {
    write_file(lower, "data");
    has_user_xattrs = true;
  }
  SECTION("directory") {
    make_dirs(lower);
    has_user_xattrs = true;
  }
  SECTION("device") { REQUIRE(::mknod(lower.c_str(), S_IFBLK | 0600, makedev(7, 200)) == 0); }
  SECTION("FIFO") { REQUIRE(::mkfifo(lower.c_str(), 0600) == 0); }
  SECTION("socket") { REQUIRE(::mknod(lower.c_str(), S_IFSOCK | 0600, 0) == 0); }
  REQUIRE(::chown(lower.c_str(), 1234, 5678) == 0);
  if (has_user_xattrs) {
    REQUIRE(::setxattr(lower.c_str(), "user.note", "value", 5, 0) == 0);
  }
  set_old_times(lower);
  const struct stat before = stat_of(lower);
  mount.mount("--io " + io);
  REQUIRE(::chmod(mount.at("o").c_str(), 0751) == 0);
  for (int pass = 0; pass < 2; ++pass) {
    CAPTURE(pass);
    const struct stat after = stat_of(mount.at("o"));
    CHECK(after.st_mode == ((before.st_mode & S_IFMT) | 0751U));
    CHECK(after.st_uid == 1234);
    CHECK(after.st_gid == 5678);
    CHECK(after.st_rdev == before.st_rdev);
    CHECK(after.st_mtim.tv_sec == kOld.tv_sec);
    CHECK(after.st_mtim.tv_nsec == kOld.tv_nsec);
    if (has_user_xattrs) {
      char value[16];
      CHECK(::getxattr(mount.at("o").c_str(), "user.note", value, sizeof value) == 5);
    }
    mount.remount();
  }
  const struct stat untouched = stat_of(lower);
  CHECK(untouched.st_mode == before.st_mode);
  CHECK(untouched.st_ctim.tv_nsec == before.st_ctim.tv_nsec);
}

TEST_CASE("copy-up of a symlink keeps its target and takes the owner given") {
  TestMount mount;
  REQUIRE(::symlink("the/target", (mount.lower() + "/s").c_str()) == 0);
  mount.mount("");
  REQUIRE(::lchown(mount.at("s").c_str(), 1234, 5678) == 0);
  mount.remount();
  char target[32];
  CHECK(::readlink(mount.at("s").c_str(), target, sizeof target) == 10);
  CHECK(std::string(target, 10) == "the/target");
  CHECK(stat_of(mount.at("s")).st_uid == 1234);
  CHECK(stat_of(mount.lower() + "/s").st_uid == 0);
}

TEST_CASE("chmod and chown copy no data; the first write does, and the lower stays", "[S-06]") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  TestMount mount;
  const std::string content(1 << 20, 'x');
  write_file(mount.lower() + "/f", content);
  mount.mount("--io " + io);
  REQUIRE(::chmod(mount.at("f").c_str(), 0600) == 0);
  REQUIRE(::chown(mount.at("f").c_str(), 1234, 5678) == 0);
  CHECK(mount.copied_bytes() == 0);
  CHECK(stat_of(mount.upper() + "/f").st_blocks < 16);
  CHECK(read_file(mount.at("f")) == content);
  mount.remount();
  CHECK(read_file(mount.at("f")) == content);
  const int fd = ::open(mount.at("f").c_str(), O_WRONLY | O_CLOEXEC);
  REQUIRE(fd >= 0);
  CHECK(::pwrite(fd, "new", 3, 0) == 3);
  CHECK(::close(fd) == 0);
  CHECK(mount.copied_bytes() >= content.size());
  mount.remount();
  CHECK(read_file(mount.at("f")) == "new" + content.substr(3));
  CHECK(read_file(mount.lower() + "/f") == content);
}

TEST_CASE("a descriptor opened before copy-up sees what is written later", "[S-05]") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  TestMount mount;
  write_file(mount.lower() + "/f", "old data");
  mount.mount("--io " + io);
  const int reader = ::open(mount.at("f").c_str(), O_RDONLY | O_CLOEXEC);
  REQUIRE(reader >= 0);
  char buffer[16] = {};
  CHECK(::pread(reader, buffer, sizeof buffer, 0) == 8);
  const int writer = ::open(mount.at("f").c_str(), O_WRONLY | O_CLOEXEC);
  REQUIRE(writer >= 0);
  CHECK(::pwrite(writer, "new", 3, 0) == 3);
  CHECK(::pread(reader, buffer, sizeof buffer, 0) == 8);
  CHECK(std::string(buffer) == "new data");
  ::close(writer);
  ::close(reader);
  CHECK(read_file(mount.lower() + "/f") == "old data");
}

TEST_CASE("a lower opened for reading is not written through its descriptor") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  TestMount mount;
  write_file(mount.lower() + "/f", "old");
  mount.mount("--io " + io);
  const struct stat before = stat_of(mount.lower() + "/f");
  const int fd = ::open(mount.at("f").c_str(), O_RDONLY | O_CLOEXEC);
  REQUIRE(fd >= 0);
  SECTION("fchmod") { CHECK(::fchmod(fd, 0600) == 0); }
  SECTION("fchown") { CHECK(::fchown(fd, 1234, 5678) == 0); }
  SECTION("futimens") {
    const timespec times[2] = {kOld, kOld};
    CHECK(::futimens(fd, times) == 0);
  }
  SECTION("fsetxattr") { CHECK(::fsetxattr(fd, "user.note", "v", 1, 0) == 0); }
  SECTION("after unlink") {
    CHECK(::unlink(mount.at("f").c_str()) == 0);
    CHECK(::fchmod(fd, 0600) == 0);
    struct stat st = {};
    CHECK(::fstat(fd, &st) == 0);
    CHECK((st.st_mode & 07777) == 0600);
  }
  SECTION("open with O_TRUNC") { write_file(mount.at("f"), ""); }
  ::close(fd);
  mount.unmount();
  const struct stat after = stat_of(mount.lower() + "/f");
  CHECK(after.st_ctim.tv_sec == before.st_ctim.tv_sec);
  CHECK(after.st_ctim.tv_nsec == before.st_ctim.tv_nsec);
  CHECK(read_file(mount.lower() + "/f") == "old");
}

TEST_CASE("a sparse file stays sparse through copy-up") {
  TestMount mount;
  write_file(mount.lower() + "/f", "start");
  REQUIRE(::truncate((mount.lower() + "/f").c_str(), 1 << 26) == 0);
  mount.mount("");
  const int fd = ::open(mount.at("f").c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  REQUIRE(fd >= 0);
  CHECK(::write(fd, "end", 3) == 3);
  CHECK(::close(fd) == 0);
  mount.unmount();
  CHECK(stat_of(mount.upper() + "/f").st_size == (1 << 26) + 3);
  CHECK(stat_of(mount.upper() + "/f").st_blocks < 256);
}

TEST_CASE("hard links of a lower stay one file through copy-up and remount", "[S-08]") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  TestMount mount;
  write_file(mount.lower() + "/a", "old");
  REQUIRE(::link((mount.lower() + "/a").c_str(), (mount.lower() + "/b").c_str()) == 0);
  mount.mount("--io " + io);
  const ino_t ino = stat_of(mount.at("a")).st_ino;
  write_file(mount.at("a"), "new");
  for (int pass = 0; pass < 2; ++pass) {
    CAPTURE(pass);
    CHECK(read_file(mount.at("b")) == "new");
    CHECK(stat_of(mount.at("a")).st_ino == ino);
    CHECK(stat_of(mount.at("b")).st_ino == ino);
    CHECK(stat_of(mount.at("b")).st_nlink == 2);
    mount.remount();
  }
  REQUIRE(::unlink(mount.at("a").c_str()) == 0);
  CHECK(stat_of(mount.at("b")).st_nlink == 1);
  CHECK(read_file(mount.lower() + "/b") == "old");
}

TEST_CASE("a link to a lower file has its content, whatever becomes of the names") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  TestMount mount;
  const std::vector<std::string> names = {"kept", "gone", "moved", "under", "twice"};
  make_dirs(mount.lower() + "/d/sub");
  for (const std::string& name : names) {
    write_file(mount.lower() + "/d/sub/" + name, "content of " + name);
    // What a redirect that lost its directory would find.
    write_file(mount.lower() + "/" + name, "another " + name);
  }
  REQUIRE(::link((mount.lower() + "/d/sub/twice").c_str(),
                 (mount.lower() + "/d/sub/twin").c_str()) == 0);
  mount.mount("--io " + io);
  const auto in = [&](const std::string& name) { return mount.at("d/sub/" + name); };
  const auto linked = [&](const std::string& name) { return mount.at("new-" + name); };
  for (const std::string& name : names) {
    REQUIRE(::link(in(name).c_str(), linked(name).c_str()) == 0);
  }
  CHECK(mount.copied_bytes() == 0);
  REQUIRE(::unlink(in("gone").c_str()) == 0);
  REQUIRE(::rename(in("moved").c_str(), mount.at("elsewhere").c_str()) == 0);
  write_file(mount.at("over"), "over");
  REQUIRE(::rename(mount.at("over").c_str(), in("under").c_str()) == 0);
  REQUIRE(::rename(mount.at("d").c_str(), mount.at("e").c_str()) == 0);
  for (int pass = 0; pass < 2; ++pass) {
    CAPTURE(pass);
    for (const std::string& name : names) {
      CHECK(read_file(linked(name)) == "content of " + name);
    }
    CHECK(read_file(mount.at("elsewhere")) == "content of moved");
    CHECK(read_file(mount.at("e/sub/under")) == "over");
    CHECK(read_file(mount.at("e/sub/twin")) == "content of twice");
    mount.remount();
  }
  // One file, also when it is written through the new name first.
  write_file(linked("kept"), "written");
  write_file(mount.at("e/sub/twin"), "both");
  CHECK(read_file(mount.at("e/sub/kept")) == "written");
  CHECK(read_file(linked("twice")) == "both");
  CHECK(read_file(mount.lower() + "/d/sub/kept") == "content of kept");
}

TEST_CASE("a link of a file of which a lower has the attributes only has its data") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  TestMount mount(2);
  const std::string data(1 << 20, 'x');
  write_file(mount.lower(1) + "/stays", data);
  write_file(mount.lower(1) + "/goes", data);
  REQUIRE(run("layerfs mount " + mount.lower(1) + " " + mount.lower(0) + " " + mount.at("")).code ==
          0);
  REQUIRE(::chmod(mount.at("stays").c_str(), 0600) == 0);
  REQUIRE(::chmod(mount.at("goes").c_str(), 0600) == 0);
  REQUIRE(::rename(mount.at("goes").c_str(), mount.at("went").c_str()) == 0);
  REQUIRE(run("layerfs umount " + mount.at("")).code == 0);
  REQUIRE(stat_of(mount.lower(0) + "/went").st_blocks < 16);
  mount.mount("--io " + io);
  for (const char* name : {"stays", "went"}) {
    REQUIRE(::link(mount.at(name).c_str(), (mount.at(name) + "2").c_str()) == 0);
  }
  for (int pass = 0; pass < 2; ++pass) {
    for (const char* name : {"stays", "stays2", "went", "went2"}) {
      CAPTURE(pass, name);
      CHECK(read_file(mount.at(name)) == data);
      CHECK((stat_of(mount.at(name)).st_mode & 07777) == 0600);
    }
    mount.remount();
  }
}

TEST_CASE("a hard link whose only name in the upper was deleted gets one there when it is linked",
          "[S-08]") {
  TestMount mount;
  write_file(mount.lower() + "/a", "old");
  REQUIRE(::link((mount.lower() + "/a").c_str(), (mount.lower() + "/b").c_str()) == 0);
  mount.mount("");
  // The kernel does not forget a file that is open, so the daemon still knows it by its
  // deleted name.
  const int held = ::open(mount.at("a").c_str(), O_RDONLY | O_CLOEXEC);
  REQUIRE(held >= 0);
  REQUIRE(::unlink(mount.at("a").c_str()) == 0);
  REQUIRE(::link(mount.at("b").c_str(), mount.at("c").c_str()) == 0);
  CHECK(::close(held) == 0);
  mount.unmount();
  REQUIRE(exists(mount.upper() + "/b"));
  CHECK(stat_of(mount.upper() + "/b").st_ino == stat_of(mount.upper() + "/c").st_ino);
}
