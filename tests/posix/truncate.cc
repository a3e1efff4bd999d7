// truncate(2) and ftruncate(2).
#include <fcntl.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <limits>

#include "tests/posix/objects.h"
#include "tests/testlib/files.h"

using namespace layerfs::testing;
using namespace layerfs::testing::posix;

namespace {

std::string truncate_by(const User& user, const char* path, off_t size) {
  return said(by(user, [&] { return ::truncate(path, size); }));
}

std::string ftruncate_of(const char* path, int flags, off_t size) {
  const int fd = ::open(path, flags | O_CLOEXEC);
  REQUIRE(fd >= 0);
  std::string result = said(::ftruncate(fd, size));
  ::close(fd);
  return result;
}

}  // namespace

TEST_CASE("a file is cut or grows, and what grew is zeros") {
  const std::string content = "0123456789";
  const Ground ground([&] {
    for (const char* name : {"a", "b"}) {
      write_file(name, content);
    }
  });
  const auto both = [](off_t size, const std::string& expected) {
    CAPTURE(size);
    CHECK(said(::truncate("a", size)) == "ok");
    CHECK(ftruncate_of("b", O_RDWR, size) == "ok");
    CHECK(read_file("a") == expected);
    CHECK(read_file("b") == expected);
    CHECK(stat_of("a").st_size == size);
    CHECK(stat_of("b").st_size == size);
  };
  both(4, "0123");
  both(8, std::string("0123") + std::string(4, '\0'));
  both(5000, "0123" + std::string(4996, '\0'));
  both(0, "");
  both(3, std::string(3, '\0'));
}

TEST_CASE("truncate follows a link, and is seen by the other names") {
  const Ground ground([] {
    write_file("file", "content");
    REQUIRE(::link("file", "second") == 0);
    REQUIRE(::symlink("file", "symlink") == 0);
  });
  CHECK(said(::truncate("symlink", 3)) == "ok");
  CHECK(read_file("second") == "con");
  CHECK(said(::truncate("second", 1)) == "ok");
  CHECK(read_file("file") == "c");
}

TEST_CASE("a truncation changes mtime and ctime, one to the same size too, a refused one not",
          "[S-12][better-than-overlay]") {
  const Ground ground([] {
    make_dir("d");
    for (const char* name : {"a", "b", "same", "refused"}) {
      write_file(std::string("d/") + name, "content");
    }
  });
  const Watch watch({"d/a", "d/b", "d/same", "d/refused", "d"});
  REQUIRE(::truncate("d/a", 3) == 0);
  REQUIRE(ftruncate_of("d/b", O_RDWR, 100) == "ok");
  REQUIRE(::truncate("d/same", 7) == 0);
  CHECK(truncate_by(kOther, "d/refused", 3) == "EACCES");
  CHECK(watch.later("d/a") == "mc");
  CHECK(watch.later("d/b") == "mc");
  // The kernel, which keeps the times in this mode, shows those of the truncation later.
  CHECK(watch.later("d/same") == (stage().filesystem == "cached" ? "" : "mc"));
  CHECK(watch.later("d/refused").empty());
  CHECK(watch.later("d").empty());
  CHECK(read_file("d/refused") == "content");
}

TEST_CASE("truncate needs write permission, and who has a file open for writing needs none") {
  const Ground ground([] {
    make_file("file", 0644, kOwner);
    make_file("read_only", 0444, kOwner);
  });
  CHECK(truncate_by(kOther, "file", 0) == "EACCES");
  CHECK(truncate_by(kOwner, "file", 0) == "ok");
  CHECK(truncate_by(kOwner, "read_only", 0) == "EACCES");
  CHECK(truncate_by(kRoot, "read_only", 0) == "ok");
  const int fd = ::open("file", O_RDWR | O_CLOEXEC);
  REQUIRE(::chmod("file", 0) == 0);
  CHECK(said(by(kOther, [&] { return ::ftruncate(fd, 5); })) == "ok");
  CHECK(stat_of("file").st_size == 5);
  ::close(fd);
}

TEST_CASE("what cannot be truncated is refused by its kind, and a size by its sign") {
  const Ground ground([] { make_all(); });
  CHECK(said(::truncate("directory", 0)) == "EISDIR");
  CHECK(said(::truncate("fifo", 0)) == "EINVAL");
  CHECK(said(::truncate("socket", 0)) == "EINVAL");
  CHECK(said(::truncate("symlink", 0)) == "ENOENT");
  CHECK(said(::truncate("file", -1)) == "EINVAL");
  CHECK(ftruncate_of("file", O_RDWR, -1) == "EINVAL");
  CHECK(ftruncate_of("file", O_RDONLY, 0) == "EINVAL");
  CHECK(said(::truncate("file", std::numeric_limits<off_t>::max())) == "EFBIG");
}

TEST_CASE("a file may be larger than 4 GiB") {
  const Ground ground([] { make_file("file"); });
  const off_t size = 5LL * 1024 * 1024 * 1024 + 7;
  CHECK(said(::truncate("file", size)) == "ok");
  CHECK(stat_of("file").st_size == size);
  const int fd = ::open("file", O_RDWR | O_CLOEXEC);
  CHECK(::pwrite(fd, "x", 1, size) == 1);
  char byte = 0;
  CHECK(::pread(fd, &byte, 1, size) == 1);
  CHECK(byte == 'x');
  CHECK(::pread(fd, &byte, 1, size - 1) == 1);
  CHECK(byte == 0);
  ::close(fd);
  CHECK(stat_of("file").st_size == size + 1);
}
