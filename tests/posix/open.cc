// open(2): what is created, what is truncated, what is refused.
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "tests/posix/objects.h"
#include "tests/testlib/files.h"

using namespace layerfs::testing;
using namespace layerfs::testing::posix;

namespace {

std::string open_by(const User& user, const char* path, int flags) {
  std::string result;
  by(user, [&] {
    result = try_open(path, flags);
    return 0;
  });
  return result;
}

std::string close_and_say(int fd) {
  std::string result = said(fd);
  ::close(fd);
  return result;
}

}  // namespace

TEST_CASE("a created file has the mode less the umask, and the caller's ids") {
  const Ground ground([] {
    make_dir("dir", 0777);
    make_dir("of_group", 02777, {0, kTeam, {}});
  });
  CHECK(try_open("dir/a", O_CREAT | O_WRONLY, 0755) == "ok");
  CHECK(look("dir/a") == "file 0755 0:0");
  const mode_t umask_was = ::umask(077);
  CHECK(try_open("dir/b", O_CREAT | O_WRONLY, 0777) == "ok");
  CHECK(look("dir/b") == "file 0700 0:0");
  ::umask(0);
  CHECK(try_open("dir/c", O_CREAT | O_WRONLY, 0666) == "ok");
  CHECK(look("dir/c") == "file 0666 0:0");
  ::umask(umask_was);
  CHECK(open_by(kMember, "dir/d", O_CREAT | O_WRONLY) == "ok");
  CHECK(look("dir/d") == "file 0644 1003:1003");
  CHECK(open_by(kOther, "of_group/e", O_CREAT | O_WRONLY) == "ok");
  CHECK(look("of_group/e") == "file 0644 1002:4001");
}

TEST_CASE("a created file has times of now, and the directory's mtime and ctime change") {
  const Ground ground([] {
    make_dir("dir");
    make_file("dir/old");
  });
  const Watch watch({"dir", "dir/old"});
  REQUIRE(try_open("dir/new", O_CREAT | O_WRONLY) == "ok");
  CHECK(watch.later("dir") == "mc");
  CHECK(watch.later("dir/old", "dir/new") == "mc");
  const struct stat st = stat_of("dir/new");
  CHECK(st.st_atim.tv_sec == st.st_mtim.tv_sec);
  const Watch existing({"dir", "dir/new"});
  REQUIRE(try_open("dir/new", O_CREAT | O_WRONLY) == "ok");
  CHECK(existing.later("dir").empty());
  CHECK(existing.later("dir/new").empty());
}

TEST_CASE("O_TRUNC empties a file and changes its mtime and ctime", "[better-than-overlay]") {
  const Ground ground([] {
    write_file("full", "content");
    make_file("empty");
  });
  const Watch watch({"full", "."});
  CHECK(try_open("full", O_WRONLY | O_TRUNC) == "ok");
  CHECK(stat_of("full").st_size == 0);
  CHECK(watch.later("full") == "mc");
  CHECK(watch.later(".").empty());
}

TEST_CASE("O_EXCL refuses every kind of object that is there, a dangling link too") {
  const Ground ground([] { make_all(); });
  for (const std::string& kind : kinds()) {
    CAPTURE(kind);
    CHECK(try_open(kind.c_str(), O_CREAT | O_EXCL | O_WRONLY) == "EEXIST");
    CHECK(look(kind).starts_with(kind));
  }
  CHECK(look("nowhere") == "ENOENT");
}

TEST_CASE("O_CREAT by a dangling link creates what it points to") {
  const Ground ground([] { make("symlink", "symlink"); });
  CHECK(try_open("symlink", O_CREAT | O_WRONLY) == "ok");
  CHECK(look("nowhere") == "file 0644 0:0");
  CHECK(look("symlink") == "symlink 0777 0:0");
}

TEST_CASE("open needs the permissions that its flags ask for, of owner, group or others") {
  struct Case {
    mode_t mode;
    User user;
    bool readable, writable;
  };
  const User in_group{1002, kOwner.gid, {}};
  const User by_list{1002, 1002, {kOwner.gid}};
  const Case cases[] = {
      {0600, kOwner, true, true},    {0400, kOwner, true, false},    {0200, kOwner, false, true},
      {0077, kOwner, false, false},  {0060, in_group, true, true},   {0040, in_group, true, false},
      {0020, in_group, false, true}, {0707, in_group, false, false}, {0060, by_list, true, true},
      {0040, by_list, true, false},  {0707, by_list, false, false},  {0006, kOther, true, true},
      {0004, kOther, true, false},   {0002, kOther, false, true},    {0770, kOther, false, false},
      {0000, kRoot, true, true},
  };
  const Ground ground([] {
    make_file("file", 0644, kOwner);
    make("fifo", "fifo", 0644, kOwner);
  });
  const int other_end = ::open("fifo", O_RDWR | O_CLOEXEC);
  REQUIRE(other_end >= 0);
  for (const char* name : {"file", "fifo"}) {
    for (const Case& one : cases) {
      CAPTURE(name, one.mode, describe(one.user));
      REQUIRE(::chmod(name, one.mode) == 0);
      const auto expected = [](bool allowed) { return allowed ? "ok" : "EACCES"; };
      const bool both = one.readable && one.writable;
      CHECK(open_by(one.user, name, O_RDONLY) == expected(one.readable));
      CHECK(open_by(one.user, name, O_WRONLY) == expected(one.writable));
      CHECK(open_by(one.user, name, O_RDWR) == expected(both));
      CHECK(open_by(one.user, name, O_RDONLY | O_TRUNC) == expected(both));
    }
  }
  ::close(other_end);
}

TEST_CASE("a directory is opened for reading by who may read it, and for writing by nobody") {
  const Ground ground([] { make_dir("dir", 0700, kOwner); });
  CHECK(open_by(kOwner, "dir", O_RDONLY) == "ok");
  CHECK(open_by(kOther, "dir", O_RDONLY) == "EACCES");
  CHECK(try_open("dir", O_WRONLY) == "EISDIR");
  CHECK(try_open("dir", O_RDWR) == "EISDIR");
  CHECK(try_open("dir", O_RDONLY | O_TRUNC) == "EISDIR");
  CHECK(try_open("dir", O_RDONLY | O_CREAT) == "EISDIR");
  REQUIRE(::chmod("dir", 0311) == 0);
  CHECK(open_by(kOwner, "dir", O_RDONLY) == "EACCES");
}

TEST_CASE("nothing is created where the directory may not be written or searched") {
  const Ground ground([] {
    make_dir("readable", 0555, kOwner);
    make_dir("unsearchable", 0666, kOwner);
    make_file("readable/there", 0666, kOwner);
  });
  CHECK(open_by(kOwner, "readable/new", O_CREAT | O_WRONLY) == "EACCES");
  CHECK(open_by(kOwner, "readable/there", O_CREAT | O_WRONLY) == "ok");
  CHECK(open_by(kOwner, "unsearchable/new", O_CREAT | O_WRONLY) == "EACCES");
  CHECK(look("readable/new") == "ENOENT");
  CHECK(look("unsearchable/new") == "ENOENT");
}

TEST_CASE("O_NOFOLLOW refuses links, O_DIRECTORY what is no directory") {
  const Ground ground([] {
    make_all();
    REQUIRE(::symlink("directory", "to_dir") == 0);
  });
  CHECK(try_open("symlink", O_RDONLY | O_NOFOLLOW) == "ELOOP");
  CHECK(try_open("symlink", O_RDONLY | O_NOFOLLOW | O_CREAT) == "ELOOP");
  CHECK(try_open("to_dir", O_RDONLY | O_NOFOLLOW) == "ELOOP");
  CHECK(try_open("to_dir", O_RDONLY | O_DIRECTORY) == "ok");
  for (const std::string& kind : kinds_but("directory")) {
    if (kind != "symlink") {
      CAPTURE(kind);
      CHECK(try_open(kind.c_str(), O_RDONLY | O_NONBLOCK | O_DIRECTORY) == "ENOTDIR");
    }
  }
}

TEST_CASE("what has no other end is ENXIO: a FIFO without reader, a socket") {
  const Ground ground([] {
    make("fifo", "fifo");
    make("socket", "socket");
  });
  CHECK(try_open("fifo", O_WRONLY | O_NONBLOCK) == "ENXIO");
  CHECK(try_open("fifo", O_RDONLY | O_NONBLOCK) == "ok");
  CHECK(try_open("socket", O_RDONLY) == "ENXIO");
  CHECK(try_open("socket", O_RDWR) == "ENXIO");
}

TEST_CASE("a program that runs cannot be opened for writing") {
  const Ground ground([] {
    write_file("program", read_file("/bin/sleep"));
    REQUIRE(::chmod("program", 0755) == 0);
  });
  int started[2];
  REQUIRE(::pipe2(started, O_CLOEXEC) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::execl("program", "sleep", "60", nullptr);
    ::_exit(127);
  }
  ::close(started[1]);
  char byte = 0;
  CHECK(::read(started[0], &byte, 1) == 0);  // closed by the exec
  ::close(started[0]);
  CHECK(try_open("program", O_WRONLY) == "ETXTBSY");
  CHECK(try_open("program", O_RDWR | O_TRUNC) == "ETXTBSY");
  CHECK(said(::truncate("program", 0)) == "ETXTBSY");
  CHECK(try_open("program", O_RDONLY) == "ok");
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  CHECK(try_open("program", O_WRONLY) == "ok");
}

TEST_CASE("O_APPEND writes at the end, whatever others wrote meanwhile") {
  const Ground ground([] { write_file("file", "one"); });
  const int first = ::open("file", O_WRONLY | O_APPEND | O_CLOEXEC);
  const int second = ::open("file", O_WRONLY | O_APPEND | O_CLOEXEC);
  CHECK(::write(first, "two", 3) == 3);
  CHECK(::write(second, "three", 5) == 5);
  CHECK(::write(first, "four", 4) == 4);
  CHECK(close_and_say(first) == "ok");
  CHECK(close_and_say(second) == "ok");
  CHECK(read_file("file") == "onetwothreefour");
}

TEST_CASE("a file made by O_TMPFILE has no name until it is linked") {
  const Ground ground([] { make_dir("dir"); });
  const int fd = ::open("dir", O_TMPFILE | O_RDWR | O_CLOEXEC, 0640);
  if (fd < 0 && errno == EOPNOTSUPP) {
    WARN("SKIP: no O_TMPFILE: the kernel or libfuse is too old");
    return;
  }
  REQUIRE(fd >= 0);
  struct stat st = {};
  CHECK(::fstat(fd, &st) == 0);
  CHECK(st.st_nlink == 0);
  CHECK(::write(fd, "data", 4) == 4);
  const std::string path = "/proc/self/fd/" + std::to_string(fd);
  CHECK(said(::linkat(AT_FDCWD, path.c_str(), AT_FDCWD, "dir/named", AT_SYMLINK_FOLLOW)) == "ok");
  CHECK(look("dir/named") == "file 0640 0:0");
  CHECK(read_file("dir/named") == "data");
  CHECK(stat_of("dir/named").st_nlink == 1);
  ::close(fd);
}
