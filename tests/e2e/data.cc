// What files hold, through every way to read and write it, compared with a plain directory.
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstring>

#include "tests/testlib/twin.h"

using namespace layerfs::testing;

namespace {

constexpr std::size_t kBlock = 4096;

class File {
 public:
  File(const std::string& path, int flags, mode_t mode = 0644)
      : fd_(::open(path.c_str(), flags | O_CLOEXEC, mode)) {
    if (fd_ < 0) {
      throw_errno(path);
    }
  }
  ~File() { ::close(fd_); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int fd() const { return fd_; }
  std::string content() const {
    struct stat st = {};
    if (::fstat(fd_, &st) < 0) {
      throw_errno("fstat");
    }
    std::string bytes(static_cast<std::size_t>(st.st_size), '?');
    const ssize_t n = ::pread(fd_, bytes.data(), bytes.size(), 0);
    bytes.resize(n < 0 ? 0 : static_cast<std::size_t>(n));
    return bytes;
  }

 private:
  int fd_;
};

class Mapping {
 public:
  Mapping(const File& file, std::size_t size, int flags, int prot = PROT_READ | PROT_WRITE)
      : size_(size), bytes_(static_cast<char*>(::mmap(nullptr, size, prot, flags, file.fd(), 0))) {
    if (bytes_ == MAP_FAILED) {
      throw_errno("mmap");
    }
  }
  ~Mapping() { ::munmap(bytes_, size_); }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  char* bytes() const { return bytes_; }
  std::string text(std::size_t length) const { return {bytes_, length}; }
  void write(const char* text) const {
    std::memcpy(bytes_, text, std::strlen(text));
    if (::msync(bytes_, size_, MS_SYNC) < 0) {
      throw_errno("msync");
    }
  }

 private:
  std::size_t size_;
  char* bytes_;
};

void put(const File& file, const std::string& text, off_t at) {
  if (::pwrite(file.fd(), text.data(), text.size(), at) != static_cast<ssize_t>(text.size())) {
    throw_errno("pwrite");
  }
}

void one_file(const std::string& dir) {
  write_file(dir + "/f", std::string(3 * kBlock, 'a') + "end");
}

// The same end after a remount too.
void check_content(Twin& twin) {
  const auto content = [](const std::string& root) { return read_file(root + "f"); };
  CHECK((twin.alike(content).size() > 0));
  twin.mount().remount();
  twin.alike(content);
  twin.mount().unmount();
  CHECK((read_file(twin.mount().lower() + "/f") == std::string(3 * kBlock, 'a') + "end"));
}

}  // namespace

TEST_CASE("a mapping made before copy-up sees later writes, a private one is its own", "[S-05]") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  Twin twin(one_file);
  twin.start("--io " + io);
  twin.alike([](const std::string& root) {
    const File reader(root + "f", O_RDONLY);
    const Mapping shared(reader, kBlock, MAP_SHARED, PROT_READ);
    const Mapping own(reader, kBlock, MAP_PRIVATE);
    std::vector<std::string> seen = {shared.text(4), own.text(4)};
    own.bytes()[0] = 'P';
    const File writer(root + "f", O_RDWR);
    put(writer, "new", 0);
    seen.push_back(shared.text(4));
    seen.push_back(own.text(4));
    const Mapping writing(writer, kBlock, MAP_SHARED);
    writing.write("mapped");
    seen.push_back(shared.text(8));
    seen.push_back(reader.content().substr(0, 8));
    return seen;
  });
  check_content(twin);
}

TEST_CASE("a file is written by a shared mapping alone") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  Twin twin(one_file);
  twin.start("--io " + io);
  twin.alike([](const std::string& root) {
    {
      const File file(root + "f", O_RDWR);
      const Mapping map(file, 2 * kBlock, MAP_SHARED);
      map.write("mapped");
      map.bytes()[kBlock] = 'B';
    }
    return read_file(root + "f").substr(0, 10);
  });
  check_content(twin);
}

TEST_CASE("a descriptor opened for reading before copy-up sees each later change", "[S-05]") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  Twin twin(one_file);
  twin.start("--io " + io);
  twin.alike([](const std::string& root) {
    const File reader(root + "f", O_RDONLY);
    std::vector<std::string> seen = {reader.content()};
    const File writer(root + "f", O_RDWR | O_APPEND);
    CHECK(::write(writer.fd(), "appended", 8) == 8);
    seen.push_back(reader.content());
    CHECK(::truncate((root + "f").c_str(), 5) == 0);
    seen.push_back(reader.content());
    CHECK(::fallocate(writer.fd(), 0, 0, 100) == 0);
    seen.push_back(reader.content());
    const File truncating(root + "f", O_WRONLY | O_TRUNC);
    seen.push_back(reader.content());
    put(truncating, "last", 2);
    seen.push_back(reader.content());
    return seen;
  });
  check_content(twin);
}

TEST_CASE("O_APPEND writes of several processes do not overwrite one another") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  TestMount mount;
  write_file(mount.lower() + "/f", "");
  mount.mount("--io " + io);
  std::vector<pid_t> children;
  for (int child = 0; child < 4; ++child) {
    children.push_back(::fork());
    if (children.back() == 0) {
      const int fd = ::open(mount.at("f").c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
      const std::string line(9, static_cast<char>('a' + child));
      bool good = fd >= 0;
      for (int i = 0; i < 200 && good; ++i) {
        good = ::write(fd, (line + "\n").data(), 10) == 10;
      }
      ::_exit(good ? 0 : 1);
    }
  }
  for (const pid_t child : children) {
    int status = 0;
    ::waitpid(child, &status, 0);
    CHECK(status == 0);
  }
  std::map<char, int> lines;
  const std::string content = read_file(mount.at("f"));
  REQUIRE(content.size() == 8000);
  for (std::size_t at = 0; at < content.size(); at += 10) {
    CHECK(content.substr(at, 10) == std::string(9, content[at]) + "\n");
    ++lines[content[at]];
  }
  CHECK(lines == std::map<char, int>{{'a', 200}, {'b', 200}, {'c', 200}, {'d', 200}});
}

TEST_CASE("fallocate does what the filesystem below does, in every mode", "[S-17]") {
  const std::string io = GENERATE(from_range(io_modes()));
  const bool copied = GENERATE(false, true);
  CAPTURE(io, copied);
  Twin twin(one_file);
  twin.start("--io " + io);
  for (const int mode :
       {0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE,
        FALLOC_FL_ZERO_RANGE, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_COLLAPSE_RANGE,
        FALLOC_FL_INSERT_RANGE, FALLOC_FL_UNSHARE_RANGE, 0x8000}) {
    CAPTURE(mode);
    const auto act = [&](const std::string& root) {
      if (copied) {
        ::chmod((root + "f").c_str(), 0600);
      }
      const File file(root + "f", O_RDWR);
      // An unknown or unimplemented mode may have either error.
      const bool done = ::fallocate(file.fd(), mode, kBlock, kBlock) == 0;
      return std::pair(done, file.content());
    };
    // FUSE has no FALLOC_FL_COLLAPSE_RANGE nor INSERT_RANGE (fs/fuse/file.c).
    if ((mode & (FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE | FALLOC_FL_UNSHARE_RANGE)) !=
        0) {
      const File file(twin.at("f"), O_RDWR);
      CHECK(outcome(::fallocate(file.fd(), mode, kBlock, kBlock)) == Outcome{-1, EOPNOTSUPP});
      continue;
    }
    twin.alike(act);
  }
  check_content(twin);
}

TEST_CASE("SEEK_DATA and SEEK_HOLE do not lose data, and find holes where S-12 says so") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  Twin twin([](const std::string& dir) {
    const File file(dir + "/f", O_CREAT | O_RDWR);
    put(file, "start", 0);
    put(file, "middle", 1 << 20);
    CHECK(::ftruncate(file.fd(), 1 << 22) == 0);
  });
  const bool writable = GENERATE(true, false);
  CAPTURE(writable);
  twin.start("--io " + io + (writable ? "" : " --read-only"));
  const auto seek = [](const std::string& root) {
    const File file(root + "f", O_RDONLY);
    std::vector<off_t> found;
    for (const off_t at : {off_t{0}, off_t{5}, off_t{65536}, off_t{1 << 20}, off_t{1 << 21},
                           off_t{(1 << 22) - 1}, off_t{1 << 22}}) {
      found.push_back(::lseek(file.fd(), at, SEEK_DATA));
      found.push_back(::lseek(file.fd(), at, SEEK_HOLE));
    }
    return found;
  };
  if (io == "cached" && writable) {
    const File file(twin.at("f"), O_RDONLY);
    CHECK(::lseek(file.fd(), 65536, SEEK_DATA) == 65536);
    CHECK(::lseek(file.fd(), 0, SEEK_HOLE) == 1 << 22);
    CHECK(outcome(::lseek(file.fd(), 1 << 22, SEEK_DATA)) == Outcome{-1, ENXIO});
  } else {
    twin.alike(seek);
  }
  if (!writable) {
    return;
  }
  twin.alike([](const std::string& root) {
    const File file(root + "f", O_RDWR);
    put(file, "late", 1 << 21);
    // Not yet written out, in cached mode.
    return ::lseek(file.fd(), 1 << 21, SEEK_DATA);
  });
  if (io != "cached") {
    twin.alike(seek);
  }
}

TEST_CASE("O_DIRECT reads and writes what others see") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  Twin twin(one_file);
  twin.start("--io " + io);
  twin.alike([](const std::string& root) {
    alignas(kBlock) static char buffer[kBlock];
    const File cached(root + "f", O_RDONLY);
    std::string seen = cached.content().substr(0, 4);
    const File direct(root + "f", O_RDWR | O_DIRECT);
    CHECK(::pread(direct.fd(), buffer, kBlock, 0) == static_cast<ssize_t>(kBlock));
    seen += std::string(buffer, 4);
    std::memset(buffer, 'd', kBlock);
    CHECK(::pwrite(direct.fd(), buffer, kBlock, kBlock) == static_cast<ssize_t>(kBlock));
    seen += cached.content().substr(kBlock - 1, 4);
    const File writer(root + "f", O_RDWR);
    put(writer, "buffered", 0);
    CHECK(::pread(direct.fd(), buffer, kBlock, 0) == static_cast<ssize_t>(kBlock));
    return seen + std::string(buffer, 10);
  });
  check_content(twin);
}

TEST_CASE("copy_file_range copies within and between files of the mount") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  Twin twin([](const std::string& dir) {
    one_file(dir);
    write_file(dir + "/from", "0123456789");
  });
  twin.start("--io " + io);
  twin.alike([](const std::string& root) {
    const File from(root + "from", O_RDWR);
    const File to(root + "f", O_RDWR);
    put(from, "ABC", 0);  // dirty pages of the source count
    off_t in = 0;
    off_t out = kBlock;
    std::vector<long> seen = {::copy_file_range(from.fd(), &in, to.fd(), &out, 10, 0)};
    in = 0;
    out = 2 * kBlock;
    seen.push_back(::copy_file_range(to.fd(), &in, to.fd(), &out, kBlock, 0));
    in = 0;
    out = 10;
    seen.push_back(::copy_file_range(to.fd(), &in, to.fd(), &out, 100, 0));  // they overlap
    seen.push_back(errno);
    return seen;
  });
  check_content(twin);
}

TEST_CASE("a sparse file of over 4 GiB is read and written at its end") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  constexpr off_t kFar = (off_t{5} << 30) + 123;
  Twin twin([](const std::string& dir) {
    const File file(dir + "/large", O_CREAT | O_RDWR);
    put(file, "start", 0);
    put(file, "far away", kFar);
  });
  twin.start("--io " + io);
  twin.alike([](const std::string& root) {
    const File file(root + "large", O_RDWR);
    char text[9] = {};
    CHECK(::pread(file.fd(), text, 8, kFar) == 8);
    put(file, "FAR", kFar);
    put(file, "farther", kFar + (off_t{1} << 30));
    CHECK(::fsync(file.fd()) == 0);
    char changed[9] = {};
    CHECK(::pread(file.fd(), changed, 8, kFar) == 8);
    CHECK(::truncate((root + "large").c_str(), kFar + 4) == 0);
    struct stat st = {};
    CHECK(::fstat(file.fd(), &st) == 0);
    return std::string(text) + changed + std::to_string(st.st_size);
  });
  twin.mount().remount();
  CHECK(stat_of(twin.at("large")).st_size == kFar + 4);
  CHECK(stat_of(twin.mount().upper() + "/large").st_blocks < 2048);
}

TEST_CASE("times are set and kept to the nanosecond, and the birth time is there") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  Twin twin(one_file);
  twin.start("--io " + io);
  const auto times = [](const std::string& root) {
    const struct stat st = stat_of(root + "f");
    return std::vector<long>{st.st_atim.tv_sec, st.st_atim.tv_nsec, st.st_mtim.tv_sec,
                             st.st_mtim.tv_nsec};
  };
  for (const auto& set :
       std::vector<std::array<timespec, 2>>{{{{1, 1}, {2, 999999999}}},
                                            {{{-5, 5}, {0, 0}}},
                                            {{{0, UTIME_OMIT}, {1234567890, 123456789}}},
                                            {{{(1L << 32) + 7, 42}, {0, UTIME_OMIT}}}}) {
    twin.same([&](const std::string& root) {
      return ::utimensat(AT_FDCWD, (root + "f").c_str(), set.data(), AT_SYMLINK_NOFOLLOW);
    });
    twin.alike(times);
  }
  twin.alike([&](const std::string& root) {
    const File file(root + "f", O_RDWR);
    put(file, "x", 0);
    const timespec set[2] = {{5, 6}, {7, 8}};
    CHECK(::futimens(file.fd(), set) == 0);
    return times(root);
  });
  twin.alike(times);
  twin.mount().remount();
  twin.alike(times);
  struct statx st = {};
  REQUIRE(::statx(AT_FDCWD, twin.at("f").c_str(), 0, STATX_BTIME, &st) == 0);
  if ((st.stx_mask & STATX_BTIME) == 0) {
    WARN("this libfuse knows no statx");
  } else {
    CHECK(st.stx_btime.tv_sec > 1700000000);
  }
}

TEST_CASE("inode flags are read, set and do what they say", "[S-16]") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  Twin twin(one_file);
  twin.start("--io " + io);
  const auto flags_of = [](const std::string& root) {
    const File file(root + "f", O_RDONLY);
    int flags = 0;
    return std::pair(::ioctl(file.fd(), FS_IOC_GETFLAGS, &flags), flags & ~FS_EXTENT_FL);
  };
  twin.alike(flags_of);
  const auto set_flags = [](int flags) {
    return [flags](const std::string& root) -> long {
      const File file(root + "f", O_RDONLY);
      int now = 0;
      if (::ioctl(file.fd(), FS_IOC_GETFLAGS, &now) < 0) {
        return -1;
      }
      now = (now & FS_EXTENT_FL) | flags;
      return ::ioctl(file.fd(), FS_IOC_SETFLAGS, &now);
    };
  };
  twin.same(set_flags(FS_NODUMP_FL | FS_NOATIME_FL));
  twin.alike(flags_of);
  twin.same(set_flags(FS_APPEND_FL));
  twin.alike(flags_of);
  const auto overwrite = [](const std::string& root) -> long {
    const int fd = ::open((root + "f").c_str(), O_WRONLY | O_CLOEXEC);
    if (fd < 0) {
      return fd;
    }
    const bool written = ::pwrite(fd, "overwritten", 11, 0) == 11 && ::fsync(fd) == 0;
    const int error = errno;
    ::close(fd);
    errno = error;
    return written ? 0 : -1;
  };
  CHECK(twin.same(overwrite) == Outcome{-1, EPERM});
  twin.same([](const std::string& root) { return ::unlink((root + "f").c_str()); });
  twin.same(set_flags(0));
  twin.alike(flags_of);
  twin.same(set_flags(FS_IMMUTABLE_FL));
  twin.same([](const std::string& root) { return ::chmod((root + "f").c_str(), 0600); });
  twin.same(
      [](const std::string& root) { return ::rename((root + "f").c_str(), (root + "g").c_str()); });
  CHECK(twin.same(overwrite) == Outcome{-1, EPERM});
  twin.same(set_flags(0));
  twin.mount().remount();  // what could not be written is still in the page cache
  check_content(twin);
}

TEST_CASE("flock and fcntl locks hold between processes, across copy-up") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  TestMount mount;
  one_file(mount.lower());
  mount.mount("--io " + io);
  const File reader(mount.at("f"), O_RDONLY);
  REQUIRE(::flock(reader.fd(), LOCK_EX) == 0);
  const File writer(mount.at("f"), O_RDWR);
  put(writer, "copied up", 0);
  struct flock range = {};
  range.l_type = F_WRLCK;
  range.l_start = 100;
  range.l_len = 100;
  REQUIRE(::fcntl(writer.fd(), F_SETLK, &range) == 0);
  const auto in_child = [&](const std::function<bool(int fd)>& locks) {
    const pid_t child = ::fork();
    if (child == 0) {
      const int fd = ::open(mount.at("f").c_str(), O_RDWR | O_CLOEXEC);
      ::_exit(fd >= 0 && locks(fd) ? 0 : 1);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return status == 0;
  };
  const auto lock_range = [&](off_t start) {
    return [start](int fd) {
      struct flock wanted = {};
      wanted.l_type = F_WRLCK;
      wanted.l_start = start;
      wanted.l_len = 10;
      return ::fcntl(fd, F_SETLK, &wanted) == 0;
    };
  };
  const auto lock_whole = [](int fd) { return ::flock(fd, LOCK_SH | LOCK_NB) == 0; };
  CHECK_FALSE(in_child(lock_whole));
  CHECK_FALSE(in_child(lock_range(150)));
  CHECK(in_child(lock_range(300)));
  REQUIRE(::flock(reader.fd(), LOCK_UN) == 0);
  range.l_type = F_UNLCK;
  REQUIRE(::fcntl(writer.fd(), F_SETLK, &range) == 0);
  CHECK(in_child(lock_whole));
  CHECK(in_child(lock_range(150)));
}

TEST_CASE("a full filesystem is ENOSPC at write, fsync or close, and spoils nothing else",
          "[S-12]") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  TestMount mount;
  write_file(mount.lower() + "/f", std::string(64 * kBlock, 'a'));
  const std::string small = mount.base() + "/small";
  make_dirs(small);
  REQUIRE(run("mount -t tmpfs -o size=2m none " + small).code == 0);
  make_dirs(small + "/u");
  make_dirs(small + "/w");
  const std::string mountpoint = mount.base() + "/m";
  CHECK(run("layerfs mount " + mount.lower() + " " + small + "/u " + mountpoint + " --io " + io)
            .code == 0);
  {
    const File file(mount.at("new"), O_CREAT | O_RDWR);
    int error = 0;
    const std::string block(16 * kBlock, 'b');
    for (int i = 0; i < 64 && error == 0; ++i) {
      error = ::write(file.fd(), block.data(), block.size()) < 0 ? errno : 0;
    }
    if (error == 0) {
      error = ::fsync(file.fd()) < 0 ? errno : 0;
    }
    CHECK(error == ENOSPC);
  }
  // A copy-up without room fails whole, and the old content stays.
  const int fd = ::open(mount.at("f").c_str(), O_WRONLY | O_CLOEXEC);
  const ssize_t written = fd < 0 ? -1 : ::pwrite(fd, "x", 1, 0);
  const bool refused = fd < 0 || written < 0 || ::fsync(fd) < 0;
  ::close(fd);
  CHECK(refused);
  CHECK((read_file(mount.at("f")).substr(1) == std::string(64 * kBlock - 1, 'a')));
  CHECK(::unlink(mount.at("new").c_str()) == 0);
  wait_for_room(small, 64 * kBlock);
  write_file(mount.at("f"), "there is room again");
  CHECK(run("layerfs umount " + mountpoint).code == 0);
  CHECK(read_file(small + "/u/f") == "there is room again");
  CHECK(run("umount -l " + small).code == 0);
}

TEST_CASE("syncfs and fsync of files and directories succeed and write out") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  TestMount mount;
  one_file(mount.lower());
  mount.mount("--io " + io);
  const File file(mount.at("f"), O_RDWR);
  const File dir(mount.at(""), O_RDONLY | O_DIRECTORY);
  put(file, "first", 0);
  CHECK(::fsync(file.fd()) == 0);
  CHECK(read_file(mount.upper() + "/f").substr(0, 5) == "first");
  put(file, "second", 0);
  CHECK(::syncfs(dir.fd()) == 0);
  CHECK(read_file(mount.upper() + "/f").substr(0, 6) == "second");
  CHECK(::fdatasync(file.fd()) == 0);
  CHECK(::fsync(dir.fd()) == 0);
}

TEST_CASE("each way to write synchronously has the daemon sync, unless the kernel itself does") {
  const std::string io = GENERATE(from_range(io_modes()));
  const auto [how, open_flags, write_flags] =
      GENERATE(table<const char*, int, int>({{"RWF_DSYNC", 0, RWF_DSYNC},
                                             {"RWF_SYNC", 0, RWF_SYNC},
                                             {"O_DSYNC", O_DSYNC, 0},
                                             {"O_SYNC", O_SYNC, 0},
                                             {"none", 0, 0}}));
  CAPTURE(io, how);
  TestMount mount;
  one_file(mount.lower());
  mount.mount("--io " + io);
  const File file(mount.at("f"), O_WRONLY | open_flags);
  for (const std::string text : {"first", "again"}) {
    const TestMount::Counts before = mount.requests();
    const iovec part{const_cast<char*>(text.data()), text.size()};
    REQUIRE(::pwritev2(file.fd(), &part, 1, 0, write_flags) == 5);
    const TestMount::Counts counts = asked(before, mount.requests());
    const auto syncs = counts.find("FSYNC");
    const bool is_asked = io == "cached" && std::string(how) != "none";
    CHECK((syncs == counts.end() ? 0 : syncs->second) == (is_asked ? 1 : 0));
    if (std::string(how) != "none") {
      CHECK(read_file(mount.upper() + "/f").substr(0, 5) == text);
    }
  }
}
