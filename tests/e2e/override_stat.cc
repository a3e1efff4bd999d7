// Owners, modes and types that are kept in user.containers.override_stat.
#include <dirent.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <map>
#include <memory>

#include "tests/testlib/as_user.h"
#include "tests/testlib/test_mount.h"

using namespace layerfs::testing;

namespace {

const User kUser = {1001, 1002, {}};
constexpr uid_t kOther = 4444;

std::string shown(const std::string& path) {
  const struct stat st = stat_of(path);
  char text[64];
  std::snprintf(text, sizeof text, "%07o %u:%u %lx", st.st_mode, st.st_uid, st.st_gid, st.st_rdev);
  return text;
}

int type_in_listing(const std::string& dir, const std::string& name) {
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(::opendir(dir.c_str()), ::closedir);
  REQUIRE(stream != nullptr);
  while (const dirent* const entry = ::readdir(stream.get())) {
    if (entry->d_name == name) {
      return entry->d_type;
    }
  }
  return -1;
}

bool has_mark(const std::string& path) {
  return ::lgetxattr(path.c_str(), "user.containers.override_stat", nullptr, 0) >= 0;
}

}  // namespace

TEST_CASE("an upper that was written with --override-stat on shows the same without the option") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  TestMount mount;
  write_file(mount.lower() + "/lower", "x");
  mount.mount("--override-stat on --io " + io);
  write_file(mount.at("file"), "x");
  REQUIRE(::chown(mount.at("file").c_str(), 1001, 1002) == 0);
  REQUIRE(::chmod(mount.at("file").c_str(), 06751) == 0);
  REQUIRE(::chown(mount.at("lower").c_str(), 1003, 1004) == 0);
  REQUIRE(::mknod(mount.at("device").c_str(), S_IFCHR | 0640, makedev(1, 3)) == 0);
  const std::vector<std::string> names = {"file", "lower", "device", ""};
  std::map<std::string, std::string> before;
  for (const std::string& name : names) {
    before[name] = shown(mount.at(name));
  }
  CHECK(stat_of(mount.upper() + "/file").st_uid == 0);
  mount.unmount();
  mount.mount("--io " + io);
  for (const std::string& name : names) {
    CAPTURE(name);
    CHECK(shown(mount.at(name)) == before[name]);
  }
}

TEST_CASE("a directory lists what is stored as a file by the type that it has, each of its names") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  TestMount mount;
  mount.mount("--override-stat on --io " + io);
  REQUIRE(::mknod(mount.at("device").c_str(), S_IFCHR | 0640, makedev(1, 3)) == 0);
  REQUIRE(::link(mount.at("device").c_str(), mount.at("again").c_str()) == 0);
  for (int pass = 0; pass < 2; ++pass) {
    CHECK(type_in_listing(mount.at(""), "device") == DT_CHR);
    CHECK(type_in_listing(mount.at(""), "again") == DT_CHR);
    mount.remount();
  }
}

TEST_CASE("a special file of before --override-stat keeps its owner and mode itself", "[S-21]") {
  TestMount mount;
  mount.mount("");
  REQUIRE(::mkfifo(mount.at("fifo").c_str(), 0600) == 0);
  mount.unmount();
  mount.mount("--override-stat on");
  CHECK(::chmod(mount.at("fifo").c_str(), 0640) == 0);
  CHECK(::chown(mount.at("fifo").c_str(), 1001, 1002) == 0);
  for (int pass = 0; pass < 2; ++pass) {
    CHECK(shown(mount.at("fifo")) == "0010640 1001:1002 0");
    mount.remount();
  }
}

TEST_CASE("symlinks have their true owner where others are in attributes", "[S-21]") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  TestMount mount;
  REQUIRE(::chmod(mount.base().c_str(), 0755) == 0);
  REQUIRE(::chmod(mount.upper().c_str(), 0777) == 0);
  REQUIRE(::symlink("t", (mount.lower() + "/lower").c_str()) == 0);
  REQUIRE(::lchown((mount.lower() + "/lower").c_str(), 1003, 1004) == 0);
  mount.mount("--override-stat on --io " + io);
  REQUIRE(errno_as(kUser, [&] { return ::symlink("t", mount.at("made").c_str()); }) == 0);
  REQUIRE(::symlink("t", mount.at("given").c_str()) == 0);
  REQUIRE(::lchown(mount.at("given").c_str(), kOther, kOther) == 0);
  REQUIRE(::rename(mount.at("lower").c_str(), mount.at("moved").c_str()) == 0);
  for (int pass = 0; pass < 2; ++pass) {
    CHECK(shown(mount.at("made")) == "0120777 1001:1002 0");
    CHECK(shown(mount.at("given")) == "0120777 4444:4444 0");
    CHECK(shown(mount.at("moved")) == "0120777 1003:1004 0");
    mount.remount();
  }
}

TEST_CASE("who may not give symlinks away is told so, and gets those copied up", "[S-21]") {
  TestMount mount;
  REQUIRE(::chmod(mount.base().c_str(), 0755) == 0);
  REQUIRE(::symlink("t", (mount.lower() + "/lower").c_str()) == 0);
  write_file(mount.lower() + "/file", "x");
  const std::string user = mount.base() + "/user";
  for (const std::string& dir : {user, user + "/u", user + "/m"}) {
    make_dirs(dir);
    REQUIRE(::chown(dir.c_str(), kUser.uid, kUser.gid) == 0);
  }
  const auto sh = [&](const std::string& command) {
    return run("cd " + user + "; setpriv --reuid 1001 --regid 1002 --clear-groups sh -c \"" +
               command + "\"");
  };
  REQUIRE(sh("layerfs mount ../l0 u m").output.empty());
  CHECK(has_mark(user + "/u"));
  CHECK(sh("mv m/lower m/moved").output.empty());
  const CommandResult given = sh("chown -h 0:0 m/moved");
  CHECK(given.code == 1);
  CHECK(given.output.find("Operation not permitted") != std::string::npos);
  // The kernel shows the owner that it knows until the next mount.
  CHECK(sh("layerfs umount m && layerfs mount ../l0 u m").output.empty());
  CHECK(sh("stat -c %u:%g m/moved m/file").output == "1001:1002\n0:0\n");
  CHECK(sh("layerfs umount m").output.empty());
}
