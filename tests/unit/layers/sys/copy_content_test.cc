#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>

#include "layers/sys/syscalls.h"
#include "tests/testlib/files.h"
#include "tests/testlib/skip.h"

using namespace layerfs;
using namespace layerfs::testing;

namespace {

constexpr off_t kMiB = 1 << 20;

struct Files {
  TempDir dir;
  UniqueFd from = open("from");
  UniqueFd to = open("to");

  UniqueFd open(const char* name) const {
    return UniqueFd(::open(dir.at(name).c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  }
  void put(off_t offset, const std::string& bytes) const {
    REQUIRE(::pwrite(from.get(), bytes.data(), bytes.size(), offset) ==
            static_cast<ssize_t>(bytes.size()));
  }
  Result<std::uint64_t> copy(std::uint64_t size) const {
    return sys::copy_content(from.get(), to.get(), size);
  }
};

std::string text(std::size_t size) {
  std::string out(size, '\0');
  for (std::size_t i = 0; i < size; ++i) {
    out[i] = static_cast<char>('a' + i * 7 % 26);
  }
  return out;
}

}  // namespace

TEST_CASE("copy_content: the copy has the bytes of the source, whatever its size") {
  const Files files;
  const std::size_t size = GENERATE(1U, 4095U, 4096U, 4097U, (1U << 20U) + 1U, 3U << 20U);
  files.put(0, text(size));
  const auto copied = files.copy(size);
  REQUIRE(copied);
  CHECK((*copied == size || *copied == 0));
  CHECK(read_file(files.dir.at("to")) == text(size));
}

TEST_CASE("copy_content: nothing is copied of an empty source") {
  const Files files;
  const auto copied = files.copy(0);
  REQUIRE(copied);
  CHECK(*copied == 0);
  CHECK(stat_of(files.dir.at("to")).st_size == 0);
}

TEST_CASE("copy_content: holes stay holes, at the start, between and at the end") {
  const Files files;
  files.put(8 * kMiB, "one");
  files.put(16 * kMiB, "two");
  REQUIRE(::ftruncate(files.from.get(), 32 * kMiB) == 0);
  const auto copied = files.copy(32 * kMiB);
  REQUIRE(copied);
  CHECK(*copied < static_cast<std::uint64_t>(kMiB));
  const struct stat st = stat_of(files.dir.at("to"));
  CHECK(st.st_size == 32 * kMiB);
  CHECK(st.st_blocks * 512 < kMiB);
  CHECK(read_file(files.dir.at("to")) == read_file(files.dir.at("from")));
}

TEST_CASE("copy_content: a source that is one hole is one") {
  const Files files;
  REQUIRE(::ftruncate(files.from.get(), off_t{1} << 40U) == 0);
  const auto copied = files.copy(std::uint64_t{1} << 40U);
  REQUIRE(copied);
  CHECK(*copied == 0);
  CHECK(stat_of(files.dir.at("to")).st_size == off_t{1} << 40U);
  CHECK(stat_of(files.dir.at("to")).st_blocks < 16);
}

TEST_CASE("copy_content: of a longer source the first bytes are copied") {
  const Files files;
  files.put(0, text(100000));
  REQUIRE(files.copy(5000));
  CHECK(read_file(files.dir.at("to")).substr(0, 5000) == text(100000).substr(0, 5000));
}

TEST_CASE("copy_content: a source shorter than it should be is EIO, not padded with zeros") {
  const Files files;
  const std::size_t has = GENERATE(0U, 1U, 4096U, 99999U);
  files.put(0, text(has));
  const auto copied = files.copy(100000);
  REQUIRE_FALSE(copied);
  CHECK(copied.error() == Errno(EIO));
}

TEST_CASE("copy_content: between filesystems it copies all the same, holes too") {
  const Files files;
  const std::string other = make_temp_dir("/dev/shm");
  const std::string path = other + "/from";
  write_file(path, text(100000));
  const UniqueFd from(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  REQUIRE(::pwrite(from.get(), "end", 3, 8 * kMiB) == 3);
  const auto copied = sys::copy_content(from.get(), files.to.get(), 8 * kMiB + 3);
  const std::string expected = read_file(path);
  ::unlink(path.c_str());
  ::rmdir(other.c_str());
  REQUIRE(copied);
  CHECK(read_file(files.dir.at("to")) == expected);
  CHECK(stat_of(files.dir.at("to")).st_blocks * 512 < 2 * kMiB);
}

TEST_CASE("copy_content: what cannot be read or written is the error of that") {
  const Files files;
  files.put(0, text(100));
  const UniqueFd write_only(::open(files.dir.at("from").c_str(), O_WRONLY | O_CLOEXEC));
  CHECK_FALSE(sys::copy_content(write_only.get(), files.to.get(), 100).ok());
  const UniqueFd read_only(::open(files.dir.at("to").c_str(), O_RDONLY | O_CLOEXEC));
  CHECK_FALSE(sys::copy_content(files.from.get(), read_only.get(), 100).ok());
  const UniqueFd full(::open("/dev/full", O_RDWR | O_CLOEXEC));
  CHECK_FALSE(sys::copy_content(files.from.get(), full.get(), 100).ok());
}

TEST_CASE("copy_range: copies between the offsets it is given, and moves no file position") {
  const Files files;
  files.put(0, "0123456789");
  const auto copied = sys::copy_range(files.from.get(), 2, files.to.get(), 1, 3);
  if (!copied && copied.error() == Errno(EOPNOTSUPP)) {
    SKIP_TEST("no copy_file_range on this filesystem");
  }
  REQUIRE(copied);
  CHECK(*copied == 3);
  CHECK(read_file(files.dir.at("to")) == std::string("\0", 1) + "234");
  CHECK(::lseek(files.from.get(), 0, SEEK_CUR) == 0);
  CHECK(::lseek(files.to.get(), 0, SEEK_CUR) == 0);
}
