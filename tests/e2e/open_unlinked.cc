// Files without a name that somebody has open.
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "tests/testlib/twin.h"

using namespace layerfs::testing;

namespace {

std::string content_of(int fd) {
  std::string content(4096, '\0');
  const ssize_t n = ::pread(fd, content.data(), content.size(), 0);
  content.resize(n < 0 ? 0 : static_cast<std::size_t>(n));
  return content;
}

int open_at(const std::string& path, int flags, mode_t mode = 0) {
  const int fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  if (fd < 0) {
    throw_errno(path);
  }
  return fd;
}

std::string proc_path(int fd) { return "/proc/self/fd/" + std::to_string(fd); }

}  // namespace

TEST_CASE("a file deleted while open is read, written, truncated and changed by its descriptor") {
  const std::string io = GENERATE(from_range(io_modes()));
  const std::string kind = GENERATE("lower", "copied", "upper", "linked");
  const bool replaced = GENERATE(false, true);
  CAPTURE(io, kind, replaced);
  Twin twin([&](const std::string& dir) {
    write_file(dir + "/f", "old data");
    if (kind == "linked") {
      REQUIRE(::link((dir + "/f").c_str(), (dir + "/g").c_str()) == 0);
    }
  });
  twin.start("--io " + io);
  if (kind == "upper") {
    twin.same([](const std::string& root) { return ::unlink((root + "f").c_str()); });
    twin.alike([](const std::string& root) {
      write_file(root + "f", "old data");
      return true;
    });
  }
  if (kind == "copied") {
    twin.same([](const std::string& root) { return ::chmod((root + "f").c_str(), 0600); });
  }
  twin.alike([&](const std::string& root) {
    const int reader = open_at(root + "f", O_RDONLY);
    const int writer = kind == "lower" ? -1 : open_at(root + "f", O_RDWR);
    if (replaced) {
      write_file(root + "other", "other");
      REQUIRE(::rename((root + "other").c_str(), (root + "f").c_str()) == 0);
    } else {
      REQUIRE(::unlink((root + "f").c_str()) == 0);
    }
    std::vector<std::string> seen = {content_of(reader)};
    if (writer >= 0) {
      REQUIRE(::pwrite(writer, "new", 3, 0) == 3);
      seen.push_back(content_of(reader));
      REQUIRE(::ftruncate(writer, 5) == 0);
      seen.push_back(content_of(reader));
      CHECK(::fsync(writer) == 0);
    }
    CHECK(::fchmod(reader, 0640) == 0);
    CHECK(::fchown(reader, 12, 34) == 0);
    struct stat st = {};
    REQUIRE(::fstat(reader, &st) == 0);
    seen.push_back(std::to_string(st.st_mode) + " " + std::to_string(st.st_uid) + " " +
                   std::to_string(st.st_nlink) + " " + std::to_string(st.st_size));
    const int again = ::open(proc_path(reader).c_str(), O_RDONLY | O_CLOEXEC);
    seen.push_back(again < 0 ? "cannot be opened again" : content_of(again));
    ::close(again);
    seen.push_back(exists(root + "f") ? read_file(root + "f") : "no f");
    seen.push_back(exists(root + "g") ? read_file(root + "g") : "no g");
    ::close(reader);
    CHECK((writer < 0 || ::close(writer) == 0));
    return seen;
  });
  twin.mount().unmount();
  CHECK(read_file(twin.mount().lower() + "/f") == "old data");
}

TEST_CASE("a mapping of a deleted file stays, and what is written to it is seen") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  Twin twin([&](const std::string& dir) { write_file(dir + "/f", "old data"); });
  twin.start("--io " + io);
  twin.alike([&](const std::string& root) {
    const int fd = open_at(root + "f", O_RDWR);
    char* map =
        static_cast<char*>(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    REQUIRE(map != MAP_FAILED);
    REQUIRE(::unlink((root + "f").c_str()) == 0);
    map[0] = 'O';
    CHECK(::msync(map, 4096, MS_SYNC) == 0);
    std::string seen = content_of(fd);
    ::close(fd);
    seen += map[1];
    ::munmap(map, 4096);
    return seen;
  });
}

TEST_CASE("a directory deleted while open is empty and takes nothing") {
  const std::string io = GENERATE(from_range(io_modes()));
  const bool from_lower = GENERATE(false, true);
  CAPTURE(io, from_lower);
  Twin twin([&](const std::string& dir) {
    if (from_lower) {
      make_dirs(dir + "/d");
    }
  });
  twin.start("--io " + io);
  twin.alike([&](const std::string& root) {
    if (!from_lower) {
      make_dirs(root + "d");
    }
    const int dir = open_at(root + "d", O_RDONLY | O_DIRECTORY);
    REQUIRE(::rmdir((root + "d").c_str()) == 0);
    std::vector<Outcome> seen;
    struct stat st = {};
    seen.push_back(outcome(::fstat(dir, &st)));
    seen.push_back({static_cast<long>(st.st_nlink), 0});
    seen.push_back(outcome(::mkdirat(dir, "x", 0755)));
    const int file = ::openat(dir, "f", O_CREAT | O_RDWR | O_CLOEXEC, 0644);
    seen.push_back(outcome(file < 0 ? -1 : 0));
    seen.push_back(outcome(::fchmod(dir, 0700)));
    seen.push_back({static_cast<long>(names_in(proc_path(dir)).size()), 0});
    make_dirs(root + "d");
    write_file(root + "d/new", "");
    seen.push_back(outcome(::faccessat(dir, "new", F_OK, 0)));
    ::close(dir);
    return seen;
  });
}

TEST_CASE("O_TMPFILE makes a file without a name, which linkat gives one") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  Twin twin([](const std::string& dir) {
    make_dirs(dir + "/d");
    write_file(dir + "/d/deleted", "");
    write_file(dir + "/d/there", "");
  });
  twin.start("--io " + io);
  twin.same([](const std::string& root) { return ::unlink((root + "d/deleted").c_str()); });
  const auto exclusive = GENERATE(0, O_EXCL);
  CAPTURE(exclusive);
  const int probe = ::open(twin.at("d").c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0640);
  if (probe < 0 && errno == EOPNOTSUPP) {
    WARN("this libfuse knows no O_TMPFILE");
    return;
  }
  ::close(probe);
  twin.alike([&](const std::string& root) {
    const int fd = open_at(root + "d", O_TMPFILE | O_RDWR | exclusive, 0640);
    std::vector<Outcome> seen;
    REQUIRE(::write(fd, "content", 7) == 7);
    struct stat st = {};
    REQUIRE(::fstat(fd, &st) == 0);
    seen.push_back({static_cast<long>(st.st_nlink), static_cast<int>(st.st_mode)});
    seen.push_back({static_cast<long>(names_in(root + "d").size()), 0});
    const auto link_as = [&](const char* name) {
      return outcome(::linkat(AT_FDCWD, proc_path(fd).c_str(), AT_FDCWD,
                              (root + "d/" + name).c_str(), AT_SYMLINK_FOLLOW));
    };
    seen.push_back(link_as("there"));
    seen.push_back(link_as("deleted"));
    seen.push_back(link_as("second"));
    REQUIRE(::fstat(fd, &st) == 0);
    seen.push_back({static_cast<long>(st.st_nlink), 0});
    REQUIRE(::write(fd, " more", 5) == 5);
    CHECK(::close(fd) == 0);
    return seen;
  });
  for (int pass = 0; pass < 2; ++pass) {
    twin.alike([](const std::string& root) {
      std::string all;
      for (const std::string& name : names_in(root + "d")) {
        all += name + ": " + read_file(root + "d/" + name) + "\n";
      }
      return all;
    });
    twin.mount().remount();
  }
}

TEST_CASE("nothing is left in the work directory of files deleted while open") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  TestMount mount;
  write_file(mount.lower() + "/a", "data");
  mount.mount("--io " + io);
  write_file(mount.at("b"), "data");
  const int a = open_at(mount.at("a"), O_RDWR);
  const int b = open_at(mount.at("b"), O_RDWR);
  REQUIRE(::unlink(mount.at("a").c_str()) == 0);
  REQUIRE(::unlink(mount.at("b").c_str()) == 0);
  ::close(a);
  ::close(b);
  mount.unmount();
  CHECK(run("find " + mount.base() + " -type f ! -path \"*/l0/*\"").output.empty());
}

TEST_CASE("a deleted file that is made immutable while open is not left in the work directory") {
  const std::string io = GENERATE(from_range(io_modes()));
  const bool crash = GENERATE(false, true);
  CAPTURE(io, crash);
  TestMount mount;
  mount.mount("--io " + io);
  write_file(mount.at("a"), "data");
  const int a = open_at(mount.at("a"), O_RDWR);
  REQUIRE(::unlink(mount.at("a").c_str()) == 0);
  int flags = FS_IMMUTABLE_FL | FS_APPEND_FL;
  REQUIRE(::ioctl(a, FS_IOC_SETFLAGS, &flags) == 0);
  const auto left = [&] { return run("find " + mount.base() + " -type f").output; };
  CHECK_FALSE(left().empty());
  if (crash) {
    run("kill -9 $(layerfs stats --json " + mount.at("") + " | jq .pid); umount -l " +
        mount.at(""));
    ::close(a);
    mount.mount("--io " + io);
  } else {
    ::close(a);
  }
  mount.unmount();
  CHECK(left().empty());
}
