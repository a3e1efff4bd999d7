// The init layer: what it has is private, changed in place, and never part of the upper.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "tests/testlib/twin.h"

using namespace layerfs::testing;

namespace {

// A lower, an init layer over it, and an upper.
class WithInit {
 public:
  WithInit() {
    make_dirs(init() + "/etc");
    make_dirs(init() + "/private");
    write_file(init() + "/etc/hostname", "container");
    write_file(init() + "/etc/only", "init");
    write_file(init() + "/private/f", "init");
    make_dirs(mount.lower() + "/etc");
    write_file(mount.lower() + "/etc/hostname", "image");
    write_file(mount.lower() + "/etc/passwd", "image");
  }
  void start(const std::string& io) { mount.mount("--io " + io + " --init " + init()); }
  std::string init() const { return mount.base() + "/init"; }

  TestMount mount;
};

}  // namespace

TEST_CASE("a private file is changed in the init layer itself and not copied up", "[S-10]") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  WithInit with;
  with.start(io);
  CHECK(read_file(with.mount.at("etc/hostname")) == "container");
  SECTION("by writing") { write_file(with.mount.at("etc/hostname"), "new"); }
  SECTION("by truncation and append") {
    REQUIRE(::truncate(with.mount.at("etc/hostname").c_str(), 0) == 0);
    const int fd = ::open(with.mount.at("etc/hostname").c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
    CHECK(::write(fd, "new", 3) == 3);
    CHECK(::close(fd) == 0);
  }
  SECTION("by a rename over it") {
    write_file(with.mount.at("etc/hostname.tmp"), "new");
    REQUIRE(::rename(with.mount.at("etc/hostname.tmp").c_str(),
                     with.mount.at("etc/hostname").c_str()) == 0);
  }
  SECTION("by deletion and creation") {
    REQUIRE(::unlink(with.mount.at("etc/hostname").c_str()) == 0);
    CHECK_FALSE(exists(with.mount.at("etc/hostname")));
    write_file(with.mount.at("etc/hostname"), "new");
  }
  SECTION("by attributes") {
    REQUIRE(::chmod(with.mount.at("etc/hostname").c_str(), 0600) == 0);
    REQUIRE(::setxattr(with.mount.at("etc/hostname").c_str(), "user.a", "v", 1, 0) == 0);
    write_file(with.mount.at("etc/hostname"), "new");
    CHECK((stat_of(with.init() + "/etc/hostname").st_mode & 07777) == 0600);
  }
  CHECK(read_file(with.mount.at("etc/hostname")) == "new");
  with.mount.remount();
  CHECK(read_file(with.mount.at("etc/hostname")) == "new");
  with.mount.unmount();
  CHECK(read_file(with.init() + "/etc/hostname") == "new");
  CHECK_FALSE(exists(with.mount.upper() + "/etc/hostname"));
  CHECK(read_file(with.mount.lower() + "/etc/hostname") == "image");
}

TEST_CASE("a deleted private path stays deleted, by a whiteout in the init layer", "[S-10]") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  WithInit with;
  with.start(io);
  REQUIRE(::unlink(with.mount.at("etc/hostname").c_str()) == 0);
  REQUIRE(::unlink(with.mount.at("etc/only").c_str()) == 0);
  for (int pass = 0; pass < 2; ++pass) {
    CHECK(names_in(with.mount.at("etc")) == std::vector<std::string>{"passwd"});
    with.mount.remount();
  }
  with.mount.unmount();
  CHECK_FALSE(exists(with.mount.upper() + "/etc/hostname"));
  CHECK_FALSE(exists(with.mount.upper() + "/etc/only"));
}

TEST_CASE("what is not private goes to the upper, also beside a private file") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  WithInit with;
  with.start(io);
  write_file(with.mount.at("etc/passwd"), "changed");
  write_file(with.mount.at("etc/new"), "new");
  REQUIRE(::chmod(with.mount.at("etc").c_str(), 0700) == 0);
  CHECK((stat_of(with.mount.at("etc")).st_mode & 07777) == 0700);
  with.mount.remount();
  CHECK((stat_of(with.mount.at("etc")).st_mode & 07777) == 0700);
  with.mount.unmount();
  CHECK(read_file(with.mount.upper() + "/etc/passwd") == "changed");
  CHECK(read_file(with.mount.upper() + "/etc/new") == "new");
  CHECK_FALSE(exists(with.init() + "/etc/new"));
}

TEST_CASE("a directory that only the init layer has takes what is made in it") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  WithInit with;
  with.start(io);
  write_file(with.mount.at("private/new"), "new");
  make_dirs(with.mount.at("private/a/b"));
  write_file(with.mount.at("private/a/b/c"), "deep");
  with.mount.remount();
  CHECK(read_file(with.mount.at("private/a/b/c")) == "deep");
  with.mount.unmount();
  CHECK(read_file(with.init() + "/private/new") == "new");
  CHECK(read_file(with.init() + "/private/a/b/c") == "deep");
  CHECK_FALSE(exists(with.mount.upper() + "/private"));
}

TEST_CASE("a rename between private and other paths moves a copy", "[S-10]") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  WithInit with;
  with.start(io);
  REQUIRE(::rename(with.mount.at("etc/only").c_str(), with.mount.at("etc/public").c_str()) == 0);
  CHECK(read_file(with.mount.at("etc/public")) == "init");
  CHECK_FALSE(exists(with.mount.at("etc/only")));
  REQUIRE(::rename(with.mount.at("etc/passwd").c_str(), with.mount.at("private/p").c_str()) == 0);
  CHECK(read_file(with.mount.at("private/p")) == "image");
  CHECK(outcome(::rename(with.mount.at("private").c_str(), with.mount.at("moved").c_str())) ==
        Outcome{-1, EXDEV});
  CHECK(outcome(::link(with.mount.at("private/f").c_str(), with.mount.at("link").c_str())) ==
        Outcome{-1, EXDEV});
  with.mount.remount();
  CHECK_FALSE(exists(with.mount.at("etc/only")));
  CHECK_FALSE(exists(with.mount.at("etc/passwd")));
  with.mount.unmount();
  CHECK(read_file(with.mount.upper() + "/etc/public") == "init");
  CHECK(read_file(with.init() + "/private/p") == "image");
}

TEST_CASE("diff never has a private path") {
  WithInit with;
  with.start("auto");
  write_file(with.mount.at("etc/hostname"), "new");
  REQUIRE(::unlink(with.mount.at("etc/only").c_str()) == 0);
  write_file(with.mount.at("private/new"), "new");
  write_file(with.mount.at("etc/passwd"), "changed");
  const auto check = [](const std::string& arguments) {
    const CommandResult diff = run("layerfs diff " + arguments);
    CAPTURE(arguments, diff.output);
    CHECK(diff.code == 0);
    CHECK(diff.output.find("passwd") != std::string::npos);
    for (const char* name : {"hostname", "only", "private"}) {
      CHECK(diff.output.find(name) == std::string::npos);
    }
  };
  check(with.mount.at(""));
  with.mount.unmount();
  check(with.mount.upper() + " --lower " + with.mount.lower());
}
