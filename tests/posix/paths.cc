// What every call does with a path that leads nowhere, too far, in circles or through what
// may not be searched.
#include <fcntl.h>
#include <sys/statfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <map>

#include "tests/posix/objects.h"
#include "tests/testlib/files.h"

using namespace layerfs::testing;
using namespace layerfs::testing::posix;

namespace {

using Call = std::function<long(const char* path)>;

long open_close(const char* path, int flags) {
  const int fd = ::open(path, flags | O_NONBLOCK | O_CLOEXEC, 0644);
  return fd < 0 ? -1 : ::close(fd);
}

// What is asked of an object that is there; "there" is a file that can be linked and renamed.
const std::map<std::string, Call> kUsing = {
    {"access", [](const char* path) { return ::access(path, F_OK); }},
    {"chmod", [](const char* path) { return ::chmod(path, 0600); }},
    {"chown", [](const char* path) { return ::chown(path, 1001, 1001); }},
    {"lchown", [](const char* path) { return ::lchown(path, 1001, 1001); }},
    {"getxattr", [](const char* path) { return ::getxattr(path, "user.x", nullptr, 0); }},
    {"link from", [](const char* path) { return ::link(path, "new"); }},
    {"listxattr", [](const char* path) { return ::listxattr(path, nullptr, 0); }},
    {"lstat",
     [](const char* path) {
       struct stat st;
       return ::lstat(path, &st);
     }},
    {"open", [](const char* path) { return open_close(path, O_RDONLY); }},
    {"open O_DIRECTORY", [](const char* path) { return open_close(path, O_RDONLY | O_DIRECTORY); }},
    {"readlink",
     [](const char* path) {
       char c;
       return ::readlink(path, &c, 1);
     }},
    {"removexattr", [](const char* path) { return ::removexattr(path, "user.x"); }},
    {"rename from", [](const char* path) { return ::rename(path, "new"); }},
    {"rmdir", [](const char* path) { return ::rmdir(path); }},
    {"setxattr", [](const char* path) { return ::setxattr(path, "user.x", "v", 1, 0); }},
    {"stat",
     [](const char* path) {
       struct stat st;
       return ::stat(path, &st);
     }},
    {"statfs",
     [](const char* path) {
       struct statfs fs;
       return ::statfs(path, &fs);
     }},
    {"truncate", [](const char* path) { return ::truncate(path, 0); }},
    {"unlink", [](const char* path) { return ::unlink(path); }},
    {"utimensat", [](const char* path) { return ::utimensat(AT_FDCWD, path, nullptr, 0); }},
};

// What makes a name.
const std::map<std::string, Call> kMaking = {
    {"link to", [](const char* path) { return ::link("there", path); }},
    {"mkdir", [](const char* path) { return ::mkdir(path, 0755); }},
    {"mkfifo", [](const char* path) { return ::mkfifo(path, 0644); }},
    {"mknod", [](const char* path) { return ::mknod(path, S_IFREG | 0644, 0); }},
    {"open O_CREAT", [](const char* path) { return open_close(path, O_CREAT | O_WRONLY); }},
    {"rename to", [](const char* path) { return ::rename("there", path); }},
    {"symlink", [](const char* path) { return ::symlink("target", path); }},
};

std::map<std::string, Call> every_call() {
  std::map<std::string, Call> all = kUsing;
  all.insert(kMaking.begin(), kMaking.end());
  return all;
}

void check_all(const std::map<std::string, Call>& calls, const std::string& path,
               const std::string& expected, const User& user = kRoot) {
  for (const auto& [name, call] : calls) {
    CAPTURE(name, path.substr(0, 60), path.size());
    CHECK(said(by(user, [&, &make = call] { return make(path.c_str()); })) == expected);
  }
}

}  // namespace

TEST_CASE("a name of 255 bytes is taken by every call that makes one, of 256 by none",
          "[better-than-overlay]") {
  const std::string longest(255, 'n');
  const Ground ground([&] {
    make_file("there");
    make_dir("lower");
    make_file("lower/" + longest);
  });
  for (const auto& [name, call] : kMaking) {
    CAPTURE(name);
    CHECK(said(call(longest.c_str())) == "ok");
    CHECK(exists(longest));
    if (name == "rename to") {
      CHECK(said(::rename(longest.c_str(), "there")) == "ok");
    }
    remove(longest);
  }
  // Copied up, renamed and removed.
  CHECK(said(::chmod(("lower/" + longest).c_str(), 0600)) == "ok");
  CHECK(said(::rename(("lower/" + longest).c_str(), longest.c_str())) == "ok");
  CHECK(names_in("lower").empty());
  CHECK(said(::unlink(longest.c_str())) == "ok");
  check_all(every_call(), longest + "n", "ENAMETOOLONG");
  check_all(every_call(), longest + "n/x", "ENAMETOOLONG");
}

TEST_CASE("a path of 4095 bytes is good, one of 4096 too long") {
  const Ground ground([] { make_file("there"); });
  std::string path = "there";
  while (path.size() < 4095) {
    path.insert(0, "./");
  }
  struct stat st = {};
  CHECK(said(::lstat(path.c_str(), &st)) == "ok");
  path.insert(1, "/");
  CHECK(path.size() == 4096);
  check_all(every_call(), path, "ENAMETOOLONG");
}

TEST_CASE("what is below a file is ENOTDIR, whatever kind of file") {
  const Ground ground([] {
    make_all();
    make_file("there");
  });
  for (const std::string& kind : kinds_but("directory")) {
    if (kind != "symlink") {
      check_all(every_call(), kind + "/x", "ENOTDIR");
      check_all(every_call(), kind + "/x/y", "ENOTDIR");
    }
  }
  check_all(kUsing, "file/", "ENOTDIR");
  CHECK(said(::rename("there", "new/")) == "ENOTDIR");
  CHECK(try_open("new/", O_CREAT | O_WRONLY) == "EISDIR");
}

TEST_CASE("what is not there is ENOENT, and so is what is below it, and the empty path") {
  const Ground ground([] {
    make_file("there");
    make_dir("dir");
    make_file("dir/removed");
    make("symlink", "symlink");
  });
  REQUIRE(::unlink("dir/removed") == 0);
  check_all(kUsing, "absent", "ENOENT");
  check_all(kUsing, "dir/removed", "ENOENT");
  check_all(every_call(), "absent/x", "ENOENT");
  check_all(every_call(), "dir/removed/x", "ENOENT");
  check_all(every_call(), "symlink/x", "ENOENT");
  check_all(every_call(), "", "ENOENT");
}

TEST_CASE("links in a circle are ELOOP") {
  const Ground ground([] {
    make_file("there");
    REQUIRE(::symlink("two", "one") == 0);
    REQUIRE(::symlink("one", "two") == 0);
    REQUIRE(::symlink("self/self", "self") == 0);
  });
  check_all(every_call(), "one/x", "ELOOP");
  check_all(every_call(), "self/x", "ELOOP");
  for (const char* name : {"access", "chmod", "chown", "open", "open O_DIRECTORY", "stat", "statfs",
                           "truncate", "utimensat"}) {
    CAPTURE(name);
    CHECK(said(kUsing.at(name)("one")) == "ELOOP");
    CHECK(said(kUsing.at(name)("self")) == "ELOOP");
  }
  CHECK(try_open("one", O_CREAT | O_WRONLY) == "ELOOP");
}

TEST_CASE("40 links in a row are followed, one more is not") {
  const Ground ground([] {
    make_file("0");
    for (int i = 1; i <= 41; ++i) {
      REQUIRE(::symlink(std::to_string(i - 1).c_str(), std::to_string(i).c_str()) == 0);
    }
  });
  CHECK(try_open("40", O_RDONLY) == "ok");
  CHECK(try_open("41", O_RDONLY) == "ELOOP");
}

TEST_CASE("what is below a directory that may not be searched is EACCES, there or not") {
  const Ground ground([] {
    make_file("there", 0666, kOwner);
    for (const mode_t mode : {0666U, 0611U, 0711U}) {
      const std::string dir = std::to_string(mode);
      make_dir(dir, 0755, kOwner);
      make_file(dir + "/in", 0666, kOwner);
      REQUIRE(::chmod(dir.c_str(), mode) == 0);
    }
    make_dir("above", 0700, kOwner);
    make_dir("above/dir", 0777, kOwner);
  });
  REQUIRE(::chmod(".", 0777) == 0);
  const std::string of_nobody = std::to_string(0666U) + "/";
  check_all(every_call(), of_nobody + "in", "EACCES", kOwner);
  check_all(every_call(), of_nobody + "new", "EACCES", kOther);
  check_all(every_call(), "above/dir/new", "EACCES", kOther);
  // Who is the owner is not one of the others, though they might search it.
  check_all(every_call(), std::to_string(0611U) + "/in", "EACCES", kOwner);
  struct stat st = {};
  CHECK(said(by(kOther, [&] { return ::stat((std::to_string(0611U) + "/in").c_str(), &st); })) ==
        "ok");
  CHECK(said(by(kOther, [&] { return ::stat((std::to_string(0711U) + "/in").c_str(), &st); })) ==
        "ok");
  CHECK(said(by(kOther, [&] { return open_close(std::to_string(0711U).c_str(), O_RDONLY); })) ==
        "EACCES");
}

TEST_CASE("a path that is no memory of the caller's is EFAULT") {
  const Ground ground([] { make_file("there"); });
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast): what is tried
  const char* const nowhere = reinterpret_cast<const char*>(8);
  for (const auto& [name, call] : every_call()) {
    CAPTURE(name);
    CHECK(said(call(nowhere)) == "EFAULT");
  }
}

TEST_CASE("what lies deeper than a path can say is reached by descent") {
  const Ground ground;
  const std::string name(200, 'd');
  int dir = ::open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const int top = ::dup(dir);
  for (int depth = 0; depth < 30; ++depth) {
    REQUIRE(::mkdirat(dir, name.c_str(), 0755) == 0);
    const int below = ::openat(dir, name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    REQUIRE(below >= 0);
    ::close(dir);
    dir = below;
  }
  const int file = ::openat(dir, "file", O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
  CHECK(file >= 0);
  CHECK(::write(file, "data", 4) == 4);
  ::close(file);
  struct stat st = {};
  CHECK(::fstatat(dir, "file", &st, 0) == 0);
  CHECK(st.st_size == 4);
  CHECK(said(::renameat(dir, "file", top, "near")) == "ok");
  CHECK(said(::fstatat(dir, "file", &st, 0)) == "ENOENT");
  CHECK(said(::fstatat(top, "near", &st, 0)) == "ok");
  ::close(dir);
  ::close(top);
}
