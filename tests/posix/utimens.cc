// utimensat(2) and futimens(2).
#include <fcntl.h>
#include <sys/time.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "tests/posix/objects.h"
#include "tests/testlib/files.h"

using namespace layerfs::testing;
using namespace layerfs::testing::posix;

namespace {

constexpr timespec kNow{0, UTIME_NOW};
constexpr timespec kOmit{0, UTIME_OMIT};
constexpr timespec kFirst{1234567890, 123456789};
constexpr timespec kSecond{1300000000, 987654321};

std::string set_times(const std::string& path, timespec atime, timespec mtime,
                      const User& user = kRoot) {
  const timespec times[] = {atime, mtime};
  return said(
      by(user, [&] { return ::utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW); }));
}

std::string text(timespec time) {
  return std::to_string(time.tv_sec) + "." + std::to_string(time.tv_nsec);
}
std::string atime_of(const std::string& path) { return text(stat_of(path).st_atim); }
std::string mtime_of(const std::string& path) { return text(stat_of(path).st_mtim); }

}  // namespace

TEST_CASE("the times of every kind of object are set to the nanosecond, and ctime is now") {
  const Ground ground([] { make_all(); });
  const Watch watch(kinds());
  for (const std::string& kind : kinds()) {
    CAPTURE(kind);
    CHECK(set_times(kind, kFirst, kSecond) == "ok");
    CHECK(atime_of(kind) == text(kFirst));
    CHECK(mtime_of(kind) == text(kSecond));
    CHECK(watch.later(kind) == "c");
  }
}

TEST_CASE("UTIME_NOW is now, UTIME_OMIT leaves the time as it is, and of both nothing changes") {
  const Ground ground([] {
    make_all();
    for (const std::string& kind : kinds()) {
      REQUIRE(set_times(kind, kFirst, kFirst) == "ok");
    }
  });
  for (const std::string& kind : kinds()) {
    CAPTURE(kind);
    const Watch watch({kind});
    CHECK(set_times(kind, kOmit, kOmit) == "ok");
    CHECK(watch.later(kind).empty());
    CHECK(set_times(kind, kOmit, kSecond) == "ok");
    CHECK(atime_of(kind) == text(kFirst));
    CHECK(mtime_of(kind) == text(kSecond));
    CHECK(set_times(kind, kSecond, kOmit) == "ok");
    CHECK(atime_of(kind) == text(kSecond));
    CHECK(mtime_of(kind) == text(kSecond));
    const Watch now({kind});
    CHECK(set_times(kind, kOmit, kNow) == "ok");
    CHECK(now.later(kind) == "mc");
    CHECK(set_times(kind, kNow, kFirst) == "ok");
    CHECK(stat_of(kind).st_atim.tv_sec > kSecond.tv_sec);
    CHECK(mtime_of(kind) == text(kFirst));
  }
}

TEST_CASE("a link's times are its own with AT_SYMLINK_NOFOLLOW, and its target's without") {
  const Ground ground([] {
    make_file("file");
    REQUIRE(::symlink("file", "symlink") == 0);
  });
  const std::string before = mtime_of("file");
  CHECK(set_times("symlink", kFirst, kFirst) == "ok");
  CHECK(mtime_of("symlink") == text(kFirst));
  CHECK(mtime_of("file") == before);
  const timespec times[] = {kSecond, kSecond};
  CHECK(said(::utimensat(AT_FDCWD, "symlink", times, 0)) == "ok");
  CHECK(mtime_of("file") == text(kSecond));
  CHECK(mtime_of("symlink") == text(kFirst));
}

TEST_CASE("the owner sets any times, who may write only those of now, others none") {
  const Ground ground([] {
    make_file("of_owner", 0444, kOwner);
    make_file("writable", 0666, kRoot);
    make_file("readable", 0644, kRoot);
    make_dir("dir", 0777, kRoot);
  });
  CHECK(set_times("of_owner", kFirst, kSecond, kOwner) == "ok");
  CHECK(set_times("of_owner", kNow, kNow, kOwner) == "ok");
  CHECK(set_times("of_owner", kNow, kNow, kOther) == "EACCES");
  CHECK(set_times("of_owner", kFirst, kSecond, kOther) == "EPERM");
  for (const char* name : {"writable", "dir"}) {
    CAPTURE(name);
    CHECK(set_times(name, kNow, kNow, kOther) == "ok");
    CHECK(said(by(kOther, [&] { return ::utimensat(AT_FDCWD, name, nullptr, 0); })) == "ok");
    CHECK(set_times(name, kFirst, kSecond, kOther) == "EPERM");
    CHECK(set_times(name, kNow, kOmit, kOther) == "EPERM");
    CHECK(set_times(name, kOmit, kNow, kOther) == "EPERM");
    CHECK(set_times(name, kOmit, kOmit, kOther) == "ok");
  }
  CHECK(set_times("readable", kNow, kNow, kOther) == "EACCES");
  CHECK(set_times("readable", kFirst, kFirst, kRoot) == "ok");
}

TEST_CASE("times before 1970 and after 2038 are kept") {
  const Ground ground([] { make_all(); });
  const timespec early{-1000000, 5};
  const timespec late{5000000000, 999999999};
  for (const std::string& kind : kinds()) {
    CAPTURE(kind);
    CHECK(set_times(kind, early, late) == "ok");
    CHECK(atime_of(kind) == text(early));
    CHECK(mtime_of(kind) == text(late));
  }
}

TEST_CASE("a time that is none is refused") {
  const Ground ground([] { make_file("file"); });
  CHECK(set_times("file", {0, 1000000000}, kNow) == "EINVAL");
  CHECK(set_times("file", kNow, {0, -1}) == "EINVAL");
}

TEST_CASE(
    "futimens sets the times by a descriptor that was opened for reading, or whose name is gone") {
  const Ground ground([] { make_file("file"); });
  const int fd = ::open("file", O_RDONLY | O_CLOEXEC);
  REQUIRE(fd >= 0);
  const timespec times[] = {kFirst, kSecond};
  CHECK(said(::futimens(fd, times)) == "ok");
  CHECK(mtime_of("file") == text(kSecond));
  REQUIRE(::unlink("file") == 0);
  const timespec others[] = {kSecond, kFirst};
  CHECK(said(::futimens(fd, others)) == "ok");
  struct stat st = {};
  CHECK(::fstat(fd, &st) == 0);
  CHECK(text(st.st_mtim) == text(kFirst));
  ::close(fd);
}

TEST_CASE("reading changes no times of what lies in a lower", "[S-22]") {
  const Ground ground([] {
    write_file("file", "content");
    make_dir("dir");
    make_file("dir/in");
    REQUIRE(::symlink("file", "symlink") == 0);
    for (const char* name : {"file", "dir", "symlink"}) {
      REQUIRE(set_times(name, kFirst, kSecond) == "ok");
    }
  });
  CHECK(read_file("symlink") == "content");
  CHECK(names_in("dir").size() == 1);
  CHECK(read_file("file") == "content");
  for (const char* name : {"file", "dir", "symlink"}) {
    CAPTURE(name);
    const bool read_by_root = !stage().in_user_namespace || std::string(name) != "symlink";
    CHECK((atime_of(name) == text(kFirst) || !stage().in_lower || !read_by_root));
    CHECK(mtime_of(name) == text(kSecond));
  }
}

TEST_CASE("a write changes mtime and ctime, also after they were set, and a read neither") {
  const Ground ground([] { make_file("file"); });
  const int fd = ::open("file", O_RDWR | O_CLOEXEC);
  REQUIRE(fd >= 0);
  REQUIRE(set_times("file", kFirst, kFirst) == "ok");
  const Watch watch({"file"});
  REQUIRE(::write(fd, "x", 1) == 1);
  CHECK(watch.later("file") == "mc");
  const Watch reading({"file"});
  char byte = 0;
  REQUIRE(::pread(fd, &byte, 1, 0) == 1);
  CHECK(reading.later("file").empty());
  // What is set after a write is not undone by what is written out later.
  REQUIRE(set_times("file", kSecond, kSecond) == "ok");
  REQUIRE(::fsync(fd) == 0);
  ::close(fd);
  CHECK(mtime_of("file") == text(kSecond));
}
