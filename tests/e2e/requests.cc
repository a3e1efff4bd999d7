// How many requests each use of the filesystem costs, by the daemon's own counters.
#include <dirent.h>
#include <fcntl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <memory>
#include <thread>

#include "tests/testlib/skip.h"
#include "tests/testlib/test_mount.h"

using namespace layerfs::testing;

namespace {

TestMount::Counts cost(const TestMount& mount, const std::function<void()>& action) {
  const TestMount::Counts before = mount.requests();
  action();
  return asked(before, mount.requests());
}

constexpr std::size_t kMebibyte = 1 << 20;

// With a file `f` of that size.
void mount_mebibyte(TestMount& mount, const std::string& io) {
  write_file(mount.lower() + "/f", std::string(kMebibyte, 'x'));
  mount.mount("--io " + io);
}

void read_through(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  REQUIRE(fd >= 0);
  char buffer[64];
  CHECK(::read(fd, buffer, sizeof buffer) == 5);
  ::close(fd);
}

std::uint64_t count(const TestMount::Counts& counts, const std::string& kind) {
  const auto found = counts.find(kind);
  return found == counts.end() ? 0 : found->second;
}

}  // namespace

TEST_CASE("what was touched once costs no request") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  TestMount mount;
  make_dirs(mount.lower() + "/d");
  write_file(mount.lower() + "/d/f", "hello");
  REQUIRE(::symlink("f", (mount.lower() + "/d/s").c_str()) == 0);
  mount.mount("--io " + io);

  std::function<void()> action;
  SECTION("stat") {
    action = [&] { stat_of(mount.at("d/f")); };
  }
  SECTION("lstat of a missing name") {
    action = [&] { CHECK_FALSE(exists(mount.at("d/none"))); };
  }
  SECTION("readlink") {
    action = [&] {
      char target[8];
      CHECK(::readlink(mount.at("d/s").c_str(), target, sizeof target) == 1);
    };
  }
  SECTION("readdir of an unchanged directory") {
    action = [&] { CHECK(names_in(mount.at("d")).size() == 2); };
  }
  action();
  action();  // the kernel keeps a listing from its second reading on
  CHECK(total(cost(mount, action)) == 0);
}

TEST_CASE("open, read and close cost nothing when cached, OPEN and RELEASE with passthrough") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  TestMount mount;
  write_file(mount.lower() + "/f", "hello");
  mount.mount("--io " + io);
  read_through(mount.at("f"));
  TestMount::Counts counts = cost(mount, [&] { read_through(mount.at("f")); });
  if (io == "passthrough") {
    counts.erase("RELEASE");
    CHECK(count(counts, "OPEN") <= 1);
    counts.erase("OPEN");
  }
  CHECK(total(counts) == 0);
}

TEST_CASE("root's first reading of a MiB, piece by piece, is at most seven requests") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  TestMount mount;
  mount_mebibyte(mount, io);
  const dev_t device = stat_of(mount.at("")).st_dev;
  const std::string ahead = "/sys/class/bdi/" + std::to_string(major(device)) + ":" +
                            std::to_string(minor(device)) + "/read_ahead_kb";
  if (::access(ahead.c_str(), W_OK) != 0) {
    SKIP_TEST("only root of the machine may set how far is read ahead");
  }
  // It is set when the mount is ready already.
  for (int i = 0; i < 1000 && std::stoi(read_file(ahead)) < 512; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  const TestMount::Counts counts = cost(mount, [&] {
    const int fd = ::open(mount.at("f").c_str(), O_RDONLY | O_CLOEXEC);
    char buffer[4096];
    std::size_t done = 0;
    for (ssize_t n = 0; (n = ::read(fd, buffer, sizeof buffer)) > 0;) {
      done += static_cast<std::size_t>(n);
    }
    CHECK(done == kMebibyte);
    ::close(fd);
  });
  CHECK(count(counts, "READ") <= 7);
}

TEST_CASE("an O_DIRECT read of a MiB is four requests") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  TestMount mount;
  mount_mebibyte(mount, io);
  const int fd = ::open(mount.at("f").c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC);
  const std::unique_ptr<char, decltype(&std::free)> block(
      static_cast<char*>(std::aligned_alloc(4096, kMebibyte)), &std::free);
  const TestMount::Counts counts = cost(mount, [&] {
    CHECK(::pread(fd, block.get(), kMebibyte, 0) == static_cast<ssize_t>(kMebibyte));
  });
  CHECK(count(counts, "READ") == 4);
  ::close(fd);
}

TEST_CASE("creating a file of 4 KiB costs its fixed requests") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  TestMount mount;
  make_dirs(mount.lower() + "/d");
  mount.mount("--io " + io);
  write_file(mount.at("d/first"), "x");
  stat_of(mount.at("d"));
  const auto action = [&] { write_file(mount.at("d/new"), std::string(4096, 'x')); };
  TestMount::Counts counts = cost(mount, action);
  std::vector<std::string> allowed = {"LOOKUP", "CREATE", "GETXATTR", "RELEASE"};
  if (io == "cached") {
    allowed.insert(allowed.end(), {"WRITE", "SETATTR"});
  }
  CAPTURE(counts);
  for (const std::string& kind : allowed) {
    CHECK(count(counts, kind) <= 1);
    counts.erase(kind);
  }
  CHECK(total(counts) == 0);
}

TEST_CASE("1000 writes of 4 KiB to an open file are no request each") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  TestMount mount;
  mount.mount("--io " + io);
  const auto writes = [&](const char* name, int blocks) {
    return total(cost(mount, [&] {
      const int fd = ::open(mount.at(name).c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
      REQUIRE(fd >= 0);
      const std::string block(4096, 'x');
      for (int i = 0; i < blocks; ++i) {
        REQUIRE(::pwrite(fd, block.data(), block.size(), off_t{4096} * i) == 4096);
      }
      REQUIRE(::close(fd) == 0);
    }));
  };
  const std::uint64_t one = writes("one", 1);
  const std::uint64_t thousand = writes("thousand", 1000);
  CAPTURE(one, thousand);
  const std::uint64_t mebibytes = 4;
  CHECK(thousand <= one + 2 + (io == "cached" ? mebibytes : 0));
}

namespace {

TestMount::Counts cost_of_name_change(const std::string& io,
                                      const std::function<void(const TestMount&)>& action) {
  TestMount mount;
  mount.mount("--io " + io);
  make_dirs(mount.at("d"));
  write_file(mount.at("d/f"), "hello");
  stat_of(mount.at("d/f"));
  TestMount::Counts counts = cost(mount, [&] { action(mount); });
  CHECK(count(counts, "GETATTR") <= 1);
  counts.erase("GETATTR");
  counts.erase("RELEASE");  // of the file written before: it may come after close(2)
  return counts;
}

}  // namespace

// With the writeback cache the kernel keeps a file's ctime, and writes it out by a SETATTR as
// soon as an unlink or a rename changes it (Linux 6.18, fs/fuse/dir.c: fuse_update_ctime).
// No reply prevents it, so that request stands beside the limit.
TEST_CASE("unlink is one request, rename and mkdir two, besides a GETATTR") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  SECTION("unlink") {
    TestMount::Counts counts = cost_of_name_change(
        io, [](const TestMount& mount) { REQUIRE(::unlink(mount.at("d/f").c_str()) == 0); });
    CAPTURE(counts);
    CHECK(count(counts, "SETATTR") <= (io == "cached" ? 1 : 0));
    counts.erase("SETATTR");
    CHECK(total(counts) == 1);
  }
  SECTION("rename") {
    TestMount::Counts counts = cost_of_name_change(io, [](const TestMount& mount) {
      REQUIRE(::rename(mount.at("d/f").c_str(), mount.at("d/g").c_str()) == 0);
    });
    CAPTURE(counts);
    CHECK(count(counts, "SETATTR") <= (io == "cached" ? 1 : 0));
    counts.erase("SETATTR");
    CHECK(total(counts) <= 2);
  }
  SECTION("mkdir") {
    const TestMount::Counts counts = cost_of_name_change(
        io, [](const TestMount& mount) { REQUIRE(::mkdir(mount.at("d/e").c_str(), 0755) == 0); });
    CAPTURE(counts);
    CHECK(total(counts) <= 2);
  }
}

TEST_CASE("the unlink of a lower file copies nothing up") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  TestMount mount;
  write_file(mount.lower() + "/f", "hello");
  mount.mount("--io " + io);
  stat_of(mount.at("f"));
  REQUIRE(::unlink(mount.at("f").c_str()) == 0);
  CHECK(mount.copied_bytes() == 0);
}

TEST_CASE("find with stat over 1000 fresh entries costs at most 20 requests") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  TestMount mount;
  make_dirs(mount.lower() + "/d");
  for (int i = 0; i < 1000; ++i) {
    write_file(mount.lower() + "/d/entry" + std::to_string(i), "");
  }
  mount.mount("--io " + io);
  const TestMount::Counts counts = cost(mount, [&] {
    const CommandResult found = run("find " + mount.at("d") + " -type f -size -9 -print | wc -l");
    CHECK(found.output == "1000\n");
  });
  CAPTURE(counts);
  CHECK(total(counts) <= 20);
}
