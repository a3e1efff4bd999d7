// Many processes at once: nothing is lost, nothing comes back, nobody waits for ever.
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdio>
#include <functional>
#include <set>

#include "tests/testlib/test_mount.h"

using namespace layerfs::testing;

namespace {

std::string numbered(const std::string& prefix, int n) { return prefix + std::to_string(n); }

// Runs `job` of each number in a process of its own; one that takes over a minute is
// killed. Checks that all returned true.
void in_processes(int count, const std::function<bool(int)>& job) {
  std::vector<pid_t> children;
  for (int number = 0; number < count; ++number) {
    const pid_t child = ::fork();
    if (child == 0) {
      ::alarm(60);
      bool good = false;
      try {
        good = job(number);
      } catch (const std::exception& error) {
        std::fprintf(stderr, "process %d: %s\n", number, error.what());
      }
      ::_exit(good ? 0 : 1);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 0;
    ::waitpid(child, &status, 0);
    CHECK(status == 0);
  }
}

}  // namespace

TEST_CASE("a file that many open for writing at once is copied up once, with all they write") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  constexpr int kWriters = 8;
  constexpr off_t kPart = 128 * 1024;
  for (int round = 0; round < 5; ++round) {
    TestMount mount;
    write_file(mount.lower() + "/f", std::string(kWriters * kPart, '.'));
    REQUIRE(::link((mount.lower() + "/f").c_str(), (mount.lower() + "/g").c_str()) == 0);
    mount.mount("--io " + io);
    const ino_t ino = stat_of(mount.at("f")).st_ino;
    in_processes(kWriters, [&](int number) {
      const std::string name = number % 2 == 0 ? "f" : "g";
      if (number == 2) {
        return ::chmod(mount.at(name).c_str(), 0640) == 0;
      }
      const int fd = ::open(mount.at(name).c_str(), O_RDWR | O_CLOEXEC);
      const std::string part(kPart, static_cast<char>('a' + number));
      return fd >= 0 && ::pwrite(fd, part.data(), part.size(), number * kPart) == kPart &&
             ::fsync(fd) == 0;
    });
    mount.remount();
    const std::string content = read_file(mount.at("f"));
    REQUIRE(content.size() == kWriters * kPart);
    for (int number = 0; number < kWriters; ++number) {
      const char expected = number == 2 ? '.' : static_cast<char>('a' + number);
      CHECK((content.substr(static_cast<std::size_t>(number * kPart), kPart) ==
             std::string(kPart, expected)));
    }
    CHECK((read_file(mount.at("g")) == content));
    CHECK(stat_of(mount.at("g")).st_ino == ino);
    CHECK((stat_of(mount.at("g")).st_mode & 07777) == 0640);
    CHECK((read_file(mount.lower() + "/f") == std::string(kWriters * kPart, '.')));
  }
}

TEST_CASE("names made, moved and deleted by many in one directory are all as they left them") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  constexpr int kProcesses = 6;
  constexpr int kNames = 60;
  TestMount mount;
  make_dirs(mount.lower() + "/d/other");
  for (int process = 0; process < kProcesses; ++process) {
    for (int i = 0; i < kNames; ++i) {
      write_file(mount.lower() + "/d/" + numbered(numbered("p", process) + "_", i), "lower");
    }
  }
  mount.mount("--io " + io);
  in_processes(kProcesses, [&](int process) {
    const std::string mine = mount.at("d/" + numbered("p", process) + "_");
    for (int i = 0; i < kNames; ++i) {
      const std::string name = numbered(mine, i);
      if (i % 4 == 0 && ::unlink(name.c_str()) < 0) {
        return false;
      }
      if (i % 4 == 1 &&
          ::rename(name.c_str(), mount.at("d/other/" + name.substr(name.rfind('/') + 1)).c_str()) <
              0) {
        return false;
      }
      if (i % 4 == 2) {
        write_file(name + ".new", "new");
        if (::rename((name + ".new").c_str(), name.c_str()) < 0) {
          return false;
        }
      }
      if (i % 4 == 3 && (::unlink(name.c_str()) < 0 || ::mkdir(name.c_str(), 0755) < 0)) {
        return false;
      }
    }
    return true;
  });
  for (int pass = 0; pass < 2; ++pass) {
    for (int process = 0; process < kProcesses; ++process) {
      for (int i = 0; i < kNames; ++i) {
        const std::string name = numbered(numbered("p", process) + "_", i);
        CAPTURE(pass, name);
        CHECK(exists(mount.at("d/" + name)) == (i % 4 >= 2));
        CHECK(exists(mount.at("d/other/" + name)) == (i % 4 == 1));
        if (i % 4 == 2) {
          CHECK(read_file(mount.at("d/" + name)) == "new");
        }
        if (i % 4 == 3) {
          CHECK(names_in(mount.at("d/" + name)).empty());
        }
      }
    }
    CHECK(names_in(mount.at("d")).size() == kProcesses * kNames / 2 + 1);
    CHECK(names_in(mount.at("d/other")).size() == kProcesses * kNames / 4);
    mount.remount();
  }
}

TEST_CASE("whoever replaces a file by rename, readers find an old or a new one, whole") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  TestMount mount;
  const auto content = [](int number) {
    return std::string(20000, static_cast<char>('a' + number));
  };
  write_file(mount.lower() + "/f", content(9));
  mount.mount("--io " + io);
  in_processes(6, [&](int number) {
    for (int i = 0; i < 150; ++i) {
      if (number < 3) {
        const std::string temporary = mount.at(numbered("tmp", number));
        write_file(temporary, content(number));
        if (::rename(temporary.c_str(), mount.at("f").c_str()) < 0) {
          return false;
        }
        continue;
      }
      const std::string seen = read_file(mount.at("f"));
      if (seen.size() != 20000 || seen.find_first_not_of(seen[0]) != std::string::npos) {
        std::fprintf(stderr, "read %zu bytes, not of one writer\n", seen.size());
        return false;
      }
    }
    return true;
  });
  CHECK(names_in(mount.at("")) == std::vector<std::string>{"f"});
}

TEST_CASE("directories moved to and fro by several end up in one place each") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  TestMount mount;
  for (const char* dir : {"a", "b", "c"}) {
    make_dirs(mount.lower() + "/" + dir);
  }
  for (int i = 0; i < 4; ++i) {
    const std::string tree = mount.lower() + "/a/" + numbered("tree", i);
    make_dirs(tree + "/sub");
    write_file(tree + "/sub/file", numbered("content", i));
  }
  mount.mount("--io " + io);
  in_processes(6, [&](int number) {
    const char* const places[] = {"a", "b", "c"};
    const std::string tree = numbered("tree", number % 4);
    for (int i = 0; i < 60; ++i) {
      const std::string from = mount.at(places[(i + number) % 3] + ("/" + tree));
      const std::string to = mount.at(places[(i + number + 1) % 3] + ("/" + tree));
      if (::rename(from.c_str(), to.c_str()) < 0 && errno != ENOENT && errno != ENOTEMPTY) {
        std::perror(from.c_str());
        return false;
      }
    }
    return true;
  });
  for (int pass = 0; pass < 2; ++pass) {
    for (int i = 0; i < 4; ++i) {
      int found = 0;
      for (const char* dir : {"a", "b", "c"}) {
        const std::string file = mount.at(dir + ("/" + numbered("tree", i)) + "/sub/file");
        if (exists(file)) {
          ++found;
          CHECK(read_file(file) == numbered("content", i));
        }
      }
      CHECK(found == 1);
    }
    mount.remount();
  }
}

TEST_CASE("a program that runs cannot be written, in the lower and after copy-up") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  TestMount mount;
  REQUIRE(run("cp /bin/sleep " + mount.lower() + "/sleep").code == 0);
  mount.mount("--io " + io);
  for (int pass = 0; pass < 2; ++pass) {
    CAPTURE(pass);
    int started[2];
    REQUIRE(::pipe2(started, O_CLOEXEC) == 0);
    const pid_t child = ::fork();
    if (child == 0) {
      ::execl(mount.at("sleep").c_str(), "sleep", "30", nullptr);
      ::_exit(1);
    }
    ::close(started[1]);
    char byte = 0;
    CHECK(::read(started[0], &byte, 1) == 0);  // closed by the exec
    ::close(started[0]);
    const int fd = ::open(mount.at("sleep").c_str(), O_WRONLY | O_CLOEXEC);
    CHECK(fd < 0);
    CHECK(errno == ETXTBSY);
    CHECK(::kill(child, 0) == 0);
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    REQUIRE(::chmod(mount.at("sleep").c_str(), 0755) == 0);
    // Its data is in the upper from now on.
    const int writer = ::open(mount.at("sleep").c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
    REQUIRE(writer >= 0);
    CHECK(::write(writer, "x", 1) == 1);
    CHECK(::close(writer) == 0);
  }
}
