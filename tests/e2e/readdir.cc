// Listings while names come and go.
#include <dirent.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdio>
#include <functional>
#include <set>

#include "tests/testlib/test_mount.h"

using namespace layerfs::testing;

namespace {

using Names = std::set<std::string>;

// A directory read by getdents64(2) with a buffer of the size given, so that the test and
// not libc says where one reading ends and the next begins.
class Reader {
 public:
  explicit Reader(const std::string& path)
      : fd_(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    if (fd_ < 0) {
      throw_errno(path);
    }
  }
  ~Reader() { ::close(fd_); }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  // Adds what one call gave to `seen`; false at the end.
  bool read(std::size_t bytes) {
    alignas(dirent64) char buffer[32768];
    const long n = ::syscall(SYS_getdents64, fd_, buffer, bytes);
    if (n < 0) {
      throw_errno("getdents64");
    }
    for (long at = 0; at < n;) {
      const auto* entry = reinterpret_cast<const dirent64*>(buffer + at);
      at += entry->d_reclen;
      twice = twice || !seen.emplace(entry->d_name).second;
    }
    return n > 0;
  }
  void read_to_end(std::size_t bytes = 4096) {
    while (read(bytes)) {
    }
  }
  void rewind() {
    if (::lseek(fd_, 0, SEEK_SET) < 0) {
      throw_errno("lseek");
    }
    seen.clear();
    twice = false;
  }

  Names seen;
  bool twice = false;  // some name was given twice

 private:
  int fd_;
};

constexpr std::size_t kFewEntries = 64;  // room for "." and "..", or for two names

Names listed(const std::string& path) {
  Reader reader(path);
  reader.read_to_end();
  return reader.seen;
}

std::string numbered(const std::string& prefix, int n) { return prefix + std::to_string(n); }

void make_files(const std::string& dir, const std::string& prefix, int count) {
  for (int i = 0; i < count; ++i) {
    write_file(dir + "/" + numbered(prefix, i), "");
  }
}

int count_of(const Names& names, const std::string& prefix) {
  return static_cast<int>(std::count_if(names.begin(), names.end(), [&](const std::string& name) {
    return name.starts_with(prefix);
  }));
}

// Runs each in a process of its own; true if all returned true.
bool in_processes(const std::vector<std::function<bool()>>& jobs) {
  std::vector<pid_t> children;
  for (const auto& job : jobs) {
    const pid_t child = ::fork();
    if (child == 0) {
      bool good = false;
      try {
        good = job();
      } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
      }
      ::_exit(good ? 0 : 1);
    }
    children.push_back(child);
  }
  bool all = true;
  for (const pid_t child : children) {
    int status = 0;
    ::waitpid(child, &status, 0);
    all = all && status == 0;
  }
  return all;
}

}  // namespace

TEST_CASE("a listing has what was there when it began, though a reader from before ends first",
          "[S-15]") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  TestMount mount;
  make_dirs(mount.lower() + "/d");
  make_files(mount.lower() + "/d", "old", 300);
  mount.mount("--io " + io);
  Reader before(mount.at("d"));
  REQUIRE(before.read(4096));
  make_files(mount.at("d"), "new", 100);
  REQUIRE(::unlink(mount.at("d/old7").c_str()) == 0);
  Reader after(mount.at("d"));
  REQUIRE(after.read(kFewEntries));
  before.read_to_end();
  CHECK_FALSE(before.twice);
  CHECK(count_of(before.seen, "old") >= 299);
  after.read_to_end();
  CHECK_FALSE(after.twice);
  CHECK(count_of(after.seen, "new") == 100);
  CHECK(count_of(after.seen, "old") == 299);
  CHECK((listed(mount.at("d")) == after.seen));
  before.rewind();
  before.read_to_end(kFewEntries);
  CHECK((before.seen == after.seen));
}

TEST_CASE("rewinddir sees the names made and deleted since") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  TestMount mount;
  make_dirs(mount.lower() + "/d");
  make_files(mount.lower() + "/d", "f", 3);
  mount.mount("--io " + io);
  DIR* dir = ::opendir(mount.at("d").c_str());
  REQUIRE(dir != nullptr);
  const auto names = [&] {
    Names seen;
    while (const dirent* entry = ::readdir(dir)) {
      seen.emplace(entry->d_name);
    }
    return seen;
  };
  CHECK(names() == Names{".", "..", "f0", "f1", "f2"});
  write_file(mount.at("d/g"), "");
  REQUIRE(::unlink(mount.at("d/f0").c_str()) == 0);
  REQUIRE(::rename(mount.at("d/f1").c_str(), mount.at("d/h").c_str()) == 0);
  ::rewinddir(dir);
  CHECK(names() == Names{".", "..", "f2", "g", "h"});
  ::closedir(dir);
}

TEST_CASE("seekdir comes back to where telldir was, whatever came and went meanwhile", "[S-15]") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  const bool changed = GENERATE(false, true);
  CAPTURE(changed);
  TestMount mount;
  make_dirs(mount.lower() + "/d");
  make_files(mount.lower() + "/d", "f", 500);
  mount.mount("--io " + io);
  DIR* dir = ::opendir(mount.at("d").c_str());
  REQUIRE(dir != nullptr);
  std::vector<std::pair<long, std::string>> places;  // where each name was read
  for (;;) {
    const long place = ::telldir(dir);
    const dirent* entry = ::readdir(dir);
    if (entry == nullptr) {
      break;
    }
    CHECK(place >= 0);
    places.emplace_back(place, entry->d_name);
  }
  REQUIRE(places.size() == 502);
  Names gone;
  if (changed) {
    for (int i = 0; i < 500; i += 5) {
      REQUIRE(::unlink(mount.at("d/" + numbered("f", i)).c_str()) == 0);
      gone.insert(numbered("f", i));
    }
    make_files(mount.at("d"), "g", 50);
  }
  for (std::size_t i = 0; i < places.size(); i += 7) {
    ::seekdir(dir, places[i].first);
    // The names that were there keep their order; new ones may stand between them.
    std::vector<std::string> rest;
    while (const dirent* entry = ::readdir(dir)) {
      if (entry->d_name[0] != 'g') {
        rest.emplace_back(entry->d_name);
      }
    }
    std::vector<std::string> expected;
    for (std::size_t k = i; k < places.size(); ++k) {
      if (!gone.contains(places[k].second)) {
        expected.push_back(places[k].second);
      }
    }
    CHECK((rest == expected));
  }
  ::closedir(dir);
}

TEST_CASE("each name is deleted as it is read until the directory is empty") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  TestMount mount;
  make_dirs(mount.lower() + "/d");
  make_files(mount.lower() + "/d", "lower", 700);
  mount.mount("--io " + io);
  make_files(mount.at("d"), "upper", 700);
  DIR* dir = ::opendir(mount.at("d").c_str());
  REQUIRE(dir != nullptr);
  int deleted = 0;
  while (const dirent* entry = ::readdir(dir)) {
    if (entry->d_name[0] != '.') {
      REQUIRE(::unlinkat(::dirfd(dir), entry->d_name, 0) == 0);
      ++deleted;
    }
  }
  ::closedir(dir);
  CHECK(deleted == 1400);
  CHECK(listed(mount.at("d")) == Names{".", ".."});
  CHECK(::rmdir(mount.at("d").c_str()) == 0);
}

TEST_CASE("20000 entries are each listed once, also by find and after rm of a tenth") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  TestMount mount;
  make_dirs(mount.lower() + "/d");
  make_files(mount.lower() + "/d", "lower", 18000);
  mount.mount("--io " + io);
  make_files(mount.at("d"), "upper", 2000);
  for (const std::size_t bytes : {32768U, 4096U}) {
    Reader reader(mount.at("d"));
    reader.read_to_end(bytes);
    CHECK(reader.seen.size() == 20002);
    CHECK_FALSE(reader.twice);
  }
  CHECK(run("find " + mount.at("d") + " -type f | wc -l").output == "20000\n");
  CHECK(run("find " + mount.at("d") + " -name \"*0\" -delete").code == 0);
  CHECK(listed(mount.at("d")).size() == 18002);
}

TEST_CASE("a process finds each file that it just made, and not what it just deleted") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  TestMount mount;
  make_dirs(mount.lower() + "/d");
  make_files(mount.lower() + "/d", "lower", 60);
  mount.mount("--io " + io);
  std::vector<std::function<bool()>> jobs;
  for (int process = 0; process < 4; ++process) {
    jobs.emplace_back([&, process] {
      const std::string prefix = numbered("p", process) + "_";
      for (int i = 0; i < 80; ++i) {
        const std::string name = numbered(prefix, i);
        write_file(mount.at("d/" + name), "");
        const Names with = listed(mount.at("d"));
        if (!with.contains(name) || count_of(with, "lower") != 60) {
          std::fprintf(stderr, "%s was made and is not listed among %zu\n", name.c_str(),
                       with.size());
          return false;
        }
        if (i % 3 != 0) {
          ::unlink(mount.at("d/" + name).c_str());
          if (listed(mount.at("d")).contains(name)) {
            std::fprintf(stderr, "%s was deleted and is listed\n", name.c_str());
            return false;
          }
        }
      }
      return true;
    });
  }
  // Slow readers, whose listings are out of date before they end.
  for (int process = 0; process < 2; ++process) {
    jobs.emplace_back([&] {
      for (int i = 0; i < 20; ++i) {
        Reader reader(mount.at("d"));
        while (reader.read(kFewEntries)) {
        }
        if (reader.twice || count_of(reader.seen, "lower") != 60) {
          std::fprintf(stderr, "a slow reader saw %zu names\n", reader.seen.size());
          return false;
        }
      }
      return true;
    });
  }
  CHECK(in_processes(jobs));
}

TEST_CASE("a listing has d_type and the st_ino of each name") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  TestMount mount(2);
  make_dirs(mount.lower(0) + "/d/sub");
  make_dirs(mount.lower(1) + "/d/sub");
  write_file(mount.lower(1) + "/d/file", "");
  REQUIRE(::symlink("x", (mount.lower(0) + "/d/symlink").c_str()) == 0);
  REQUIRE(::mkfifo((mount.lower(1) + "/d/fifo").c_str(), 0600) == 0);
  mount.mount("--io " + io);
  write_file(mount.at("d/new"), "");
  REQUIRE(::chmod(mount.at("d/file").c_str(), 0600) == 0);
  DIR* dir = ::opendir(mount.at("d").c_str());
  REQUIRE(dir != nullptr);
  int entries = 0;
  while (const dirent* entry = ::readdir(dir)) {
    const struct stat st = stat_of(mount.at("d/" + std::string(entry->d_name)));
    CAPTURE(std::string(entry->d_name));
    CHECK(entry->d_ino == st.st_ino);
    CHECK(entry->d_type == IFTODT(st.st_mode));
    ++entries;
  }
  CHECK(entries == 7);
  ::closedir(dir);
}
