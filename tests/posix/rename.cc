// rename(2): what takes which place, who may, and what changes with it.
#include <fcntl.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "tests/posix/objects.h"
#include "tests/testlib/files.h"

using namespace layerfs::testing;
using namespace layerfs::testing::posix;

namespace {

std::string rename_by(const User& user, const std::string& from, const std::string& to,
                      unsigned flags = 0) {
  return said(
      by(user, [&] { return ::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), flags); }));
}
std::string rename_here(const std::string& from, const std::string& to, unsigned flags = 0) {
  return rename_by(kRoot, from, to, flags);
}

// Two directories with one object of each kind in the first.
void make_two_dirs() {
  make_dir("from");
  make_dir("to");
  for (const std::string& kind : kinds()) {
    make(kind, "from/" + kind, 0640, kOwner);
  }
}

}  // namespace

TEST_CASE("a renamed object is the same under its new name, and gone under its old") {
  const Ground ground(make_two_dirs);
  for (const std::string& kind : kinds()) {
    CAPTURE(kind);
    const std::string from = "from/" + kind;
    const std::string near = from + "2";
    const std::string far = "to/" + kind;
    const std::string before = look(from);
    const auto ino = stat_of(from).st_ino;
    for (const auto& [old_name, new_name] : {std::pair{from, near}, {near, far}, {far, from}}) {
      CHECK(rename_here(old_name, new_name) == "ok");
      CHECK(look(old_name) == "ENOENT");
      CHECK(look(new_name) == before);
      CHECK(stat_of(new_name).st_ino == ino);
    }
  }
}

TEST_CASE("a rename of one of several names keeps the others", "[S-08]") {
  const Ground ground([] {
    for (const std::string& kind : kinds_but("directory")) {
      make(kind, kind);
      REQUIRE(::link(kind.c_str(), (kind + "2").c_str()) == 0);
    }
  });
  for (const std::string& kind : kinds_but("directory")) {
    CAPTURE(kind);
    const std::string second = kind + "2";
    const std::string third = kind + "3";
    CHECK(rename_here(kind, third) == "ok");
    CHECK(stat_of(third).st_ino == stat_of(second).st_ino);
    CHECK((stat_of(third).st_nlink == 2 || !copied_up_together(kind)));
    CHECK(rename_here(third, second) == "ok");
    if (copied_up_together(kind)) {
      // Of two names of one object neither replaces the other.
      CHECK(look(third) == look(second));
      CHECK(stat_of(third).st_nlink == 2);
    } else {
      CHECK(look(third) == "ENOENT");
      CHECK(look(second).starts_with(kind));
    }
  }
}

TEST_CASE("whatever is no directory replaces whatever is none, whose last name that was or not",
          "[S-08]") {
  const Ground ground([] {
    make_dir("d");
    for (const std::string& from : kinds_but("directory")) {
      for (const std::string& to : kinds_but("directory")) {
        make(from, "d/" + from + "-" + to);
        make(to, "d/" + from + "-" + to + ".to");
        REQUIRE(::link(("d/" + from + "-" + to + ".to").c_str(),
                       ("d/" + from + "-" + to + ".link").c_str()) == 0);
      }
    }
  });
  for (const std::string& from : kinds_but("directory")) {
    for (const std::string& to : kinds_but("directory")) {
      const std::string name = "d/" + from + "-" + to;
      CAPTURE(name);
      const auto ino = stat_of(name).st_ino;
      CHECK(rename_here(name, name + ".to") == "ok");
      CHECK(look(name) == "ENOENT");
      CHECK(stat_of(name + ".to").st_ino == ino);
      CHECK(look(name + ".to").starts_with(from));
      CHECK(look(name + ".link").starts_with(to));
      CHECK((stat_of(name + ".link").st_nlink == 1 || !copied_up_together(to)));
    }
  }
}

TEST_CASE("a directory replaces an empty directory only, and nothing else replaces a directory") {
  const Ground ground([] {
    make_all();
    for (const char* dir : {"full", "empty", "moved", "moved2"}) {
      make_dir(dir);
    }
    make_file("full/file");
    make_file("moved/file");
  });
  for (const std::string& kind : kinds_but("directory")) {
    CAPTURE(kind);
    CHECK(rename_here(kind, "directory") == "EISDIR");
    CHECK(rename_here("directory", kind) == "ENOTDIR");
    CHECK(look(kind).starts_with(kind));
  }
  CHECK(rename_here("moved", "full") == "ENOTEMPTY");
  CHECK(names_in("full") == std::vector<std::string>{"file"});
  CHECK(rename_here("moved", "empty") == "ok");
  CHECK(look("moved") == "ENOENT");
  CHECK(names_in("empty") == std::vector<std::string>{"file"});
  CHECK(rename_here("moved2", "directory") == "ok");
}

TEST_CASE("a directory that was emptied is replaced, and what was in it does not come back") {
  const Ground ground([] {
    make_dir("old");
    make_file("old/file");
    make_dir("new");
    make_file("new/other");
  });
  REQUIRE(::unlink("old/file") == 0);
  CHECK(rename_here("new", "old") == "ok");
  CHECK(names_in("old") == std::vector<std::string>{"other"});
  REQUIRE(::mkdir("new", 0755) == 0);
  CHECK(names_in("new").empty());
}

TEST_CASE("a directory does not move into itself, and . and .. do not move") {
  const Ground ground([] {
    make_dir("a");
    make_dir("a/b");
    make_dir("a/b/c");
  });
  CHECK(rename_here("a", "a/b/c/new") == "EINVAL");
  CHECK(rename_here("a", "a/b") == "EINVAL");
  CHECK(rename_here("a/b/c", "a") == "ENOTEMPTY");
  CHECK(rename_here("a/.", "x") == "EBUSY");
  CHECK(rename_here("a/b/..", "x") == "EBUSY");
  CHECK(rename_here("a/b", "a/.") == "EBUSY");
  CHECK(look("a/b/c").starts_with("directory"));
}

TEST_CASE("a rename changes the times of both directories and the object's ctime only") {
  const Ground ground(make_two_dirs);
  for (const std::string& kind : kinds()) {
    CAPTURE(kind);
    const std::string from = "from/" + kind;
    const std::string to = "to/" + kind;
    const Watch watch({from, "from", "to"});
    REQUIRE(rename_here(from, to) == "ok");
    CHECK(watch.later("from") == "mc");
    CHECK(watch.later("to") == "mc");
    CHECK(watch.later(from, to) == "c");
    if (kind == "file") {
      const Watch refused({to, "from", "to"});
      CHECK(rename_by(kOther, to, from) == "EACCES");
      CHECK(refused.later("from").empty());
      CHECK(refused.later("to").empty());
      CHECK(refused.later(to).empty());
    }
  }
}

TEST_CASE("replacing one of several names changes the ctime of the object that loses it") {
  const Ground ground([] {
    make_file("new");
    make_file("old");
    REQUIRE(::link("old", "link") == 0);
  });
  const Watch watch({"link"});
  REQUIRE(rename_here("new", "old") == "ok");
  CHECK(watch.later("link") == "c");
  CHECK(stat_of("link").st_nlink == 1);
}

TEST_CASE("a directory that moves takes a link from one above to the other",
          "[better-than-overlay]") {
  const Ground ground(make_two_dirs);
  const auto from = stat_of("from").st_nlink;
  const auto to = stat_of("to").st_nlink;
  REQUIRE(rename_here("from/directory", "to/directory") == "ok");
  CHECK(stat_of("from").st_nlink == from - 1);
  CHECK(stat_of("to").st_nlink == to + 1);
  struct stat above = {};
  REQUIRE(::stat("to/directory/..", &above) == 0);
  CHECK(above.st_ino == stat_of("to").st_ino);
}

TEST_CASE(
    "a rename needs write permission for both directories, and for a directory that gets another "
    "above") {
  const Ground ground([] {
    make_dir("mine", 0755, kOwner);
    make_dir("also_mine", 0755, kOwner);
    make_dir("roots", 0755);
    for (const std::string& kind : kinds()) {
      make(kind, "mine/" + kind, 0755, kOwner);
      make(kind, "roots/" + kind, 0755, kOwner);
    }
    make_dir("mine/of_root", 0755);
  });
  for (const std::string& kind : kinds()) {
    CAPTURE(kind);
    CHECK(rename_by(kOwner, "mine/" + kind, "roots/new") == "EACCES");
    CHECK(rename_by(kOwner, "roots/" + kind, "mine/new") == "EACCES");
    CHECK(rename_by(kOther, "mine/" + kind, "mine/new") == "EACCES");
    CHECK(rename_by(kOwner, "mine/" + kind, "also_mine/" + kind) == "ok");
  }
  // Its ".." would change.
  CHECK(rename_by(kOwner, "mine/of_root", "also_mine/of_root") == "EACCES");
  CHECK(rename_by(kOwner, "mine/of_root", "mine/renamed") == "ok");
}

// Who owns a sticky directory, who the object in it, and whether kOwner may move or replace that.
const std::tuple<User, User, bool> kStickyCases[] = {{kOwner, kOwner, true},
                                                     {kOwner, kOther, true},
                                                     {kOther, kOwner, true},
                                                     {kRoot, kOther, false},
                                                     {kOther, kRoot, false}};

TEST_CASE("from a sticky directory the owner of it or of the object moves it, nobody else") {
  for (const auto& [dir_owner, owner, may] : kStickyCases) {
    const User above = dir_owner;
    const User of_object = owner;
    const Ground ground([&] {
      make_dir("sticky", 01777, above);
      make_dir("to", 0777);
      for (const std::string& kind : kinds()) {
        // One may write to it, so that a directory's ".." may change.
        make(kind, "sticky/" + kind, 0777, of_object);
      }
    });
    for (const std::string& kind : kinds()) {
      CAPTURE(kind, describe(above), describe(of_object));
      CHECK(rename_by(kOwner, "sticky/" + kind, "to/" + kind) == (may ? "ok" : "EPERM"));
      CHECK(look((may ? "to/" : "sticky/") + kind).starts_with(kind));
    }
  }
}

TEST_CASE("in a sticky directory the owner of it or of the object replaces it, nobody else") {
  for (const auto& [dir_owner, owner, may] : kStickyCases) {
    const User above = dir_owner;
    const User of_object = owner;
    const Ground ground([&] {
      make_dir("sticky", 01777, above);
      make_dir("from", 0777);
      for (const std::string& kind : kinds()) {
        make(kind, "from/" + kind, 0777, kOwner);
        make(kind, "sticky/" + kind, 0777, of_object);
      }
    });
    for (const std::string& kind : kinds()) {
      CAPTURE(kind, describe(above), describe(of_object));
      CHECK(rename_by(kOwner, "from/" + kind, "sticky/" + kind) == (may ? "ok" : "EPERM"));
      CHECK(look("from/" + kind) == (may ? "ENOENT" : look("from/" + kind)));
    }
  }
}

TEST_CASE("RENAME_NOREPLACE refuses a name that is taken") {
  const Ground ground([] {
    make_all();
    make_file("new");
  });
  for (const std::string& kind : kinds()) {
    CAPTURE(kind);
    CHECK(rename_here("new", kind, RENAME_NOREPLACE) == "EEXIST");
  }
  CHECK(rename_here("new", "newer", RENAME_NOREPLACE) == "ok");
}

TEST_CASE("RENAME_EXCHANGE swaps two objects of whatever kinds, and needs both") {
  const Ground ground([] {
    make_all();
    write_file("other", "content");
    make_dir("dir");
    write_file("dir/in", "content");
  });
  for (const std::string& kind : kinds()) {
    CAPTURE(kind);
    CHECK(rename_here("other", kind, RENAME_EXCHANGE) == "ok");
    CHECK(read_file(kind) == "content");
    CHECK(look("other").starts_with(kind));
    CHECK(rename_here(kind, "other", RENAME_EXCHANGE) == "ok");
    CHECK(rename_here("dir", kind, RENAME_EXCHANGE) == "ok");
    CHECK(read_file(kind + "/in") == "content");
    CHECK(rename_here("dir", kind, RENAME_EXCHANGE) == "ok");
    CHECK(look(kind).starts_with(kind));
  }
  CHECK(rename_here("other", "absent", RENAME_EXCHANGE) == "ENOENT");
  CHECK(rename_here("other", "dir", RENAME_EXCHANGE | RENAME_NOREPLACE) == "EINVAL");
  CHECK(rename_here("dir", "dir/in", RENAME_EXCHANGE) == "EINVAL");
}

TEST_CASE("who has an object open keeps it when another takes its name", "[better-than-overlay]") {
  const Ground ground([] {
    write_file("old", "old");
    write_file("new", "new");
  });
  const int fd = ::open("old", O_RDONLY | O_CLOEXEC);
  REQUIRE(rename_here("new", "old") == "ok");
  char buffer[8] = {};
  CHECK(::read(fd, buffer, sizeof buffer) == 3);
  CHECK(std::string(buffer) == "old");
  CHECK(read_file("old") == "new");
  struct stat st = {};
  CHECK(::fstat(fd, &st) == 0);
  CHECK(st.st_nlink == 0);
  ::close(fd);
}
