// What cannot be mounted: one clear line each, and nothing left behind.
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>

#include "tests/testlib/skip.h"
#include "tests/testlib/test_mount.h"

using namespace layerfs::testing;

namespace {

using Names = std::vector<std::string>;

// Layers l0, u and a mount point m, all of them empty, and everything else removed at the end.
class Place {
 public:
  Place() : base_(make_temp_dir("/var/tmp")) {
    for (const char* name : {"l0", "u", "m"}) {
      make_dirs(at(name));
    }
    REQUIRE(::chmod(base_.c_str(), 0755) == 0);
  }
  ~Place() {
    for (const char* name : {"m", "m2", "user/m", "small"}) {
      ::umount2(at(name).c_str(), MNT_DETACH);
    }
    run("rm -rf --one-file-system " + base_);
  }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;

  std::string at(const std::string& path) const { return base_ + "/" + path; }
  // A shell command in this directory.
  CommandResult sh(const std::string& command) const { return run("cd " + base_ + "; " + command); }
  // As an unprivileged user who owns user/.
  CommandResult as_nobody(const std::string& command) const {
    return sh("setpriv --reuid 65534 --regid 65534 --clear-groups " + command);
  }
  void make_users_own() const {
    for (const char* name : {"user", "user/u", "user/m"}) {
      make_dirs(at(name));
      REQUIRE(::chown(at(name).c_str(), 65534, 65534) == 0);
    }
  }

 private:
  std::string base_;
};

// A command that ended with `code` and one line that has all `words`. What it left behind is
// for each case to look at.
void check_refused(const CommandResult& result, const std::vector<std::string>& words, int code = 1,
                   const std::string& command = "mount") {
  CAPTURE(result.output);
  CHECK(result.code == code);
  CHECK(result.output.starts_with("layerfs: " + command + ": "));
  CHECK(std::count(result.output.begin(), result.output.end(), '\n') == 1);
  for (const std::string& word : words) {
    CAPTURE(word);
    CHECK(result.output.find(word) != std::string::npos);
  }
}

bool is_mounted(const std::string& path) {
  std::ifstream table("/proc/self/mountinfo");
  std::string line;
  while (std::getline(table, line)) {
    if (line.find(" " + path + " ") != std::string::npos) {
      return true;
    }
  }
  return false;
}

}  // namespace

TEST_CASE("a second mount on the upper or work directory of another is refused, the first unharmed",
          "[E-01]") {
  const Place place;
  make_dirs(place.at("u2"));
  make_dirs(place.at("m2"));
  REQUIRE(place.sh("layerfs mount l0 u m --work w").code == 0);
  write_file(place.at("m/before"), "x");
  check_refused(place.sh("layerfs mount l0 u m2 --work w2"), {"upper directory", "in use by"});
  check_refused(place.sh("layerfs mount l0 u2 m2 --work w"), {"work directory", "in use by"});
  CHECK_FALSE(exists(place.at("w2")));
  CHECK_FALSE(is_mounted(place.at("m2")));
  write_file(place.at("m/after"), "y");
  CHECK(names_in(place.at("u")) == Names{"after", "before"});
  CHECK(names_in(place.at("w")) == Names{"layerfs.index", "work"});
  CHECK(place.sh("layerfs umount m").code == 0);
  CHECK(place.sh("layerfs mount l0 u m --work w && layerfs umount m").code == 0);
}

TEST_CASE("a work directory on another filesystem is refused and not left there", "[E-02]") {
  const Place place;
  make_dirs(place.at("small"));
  REQUIRE(::mount("none", place.at("small").c_str(), "tmpfs", 0, nullptr) == 0);
  check_refused(place.sh("layerfs mount l0 u m --work small/w"),
                {"work directory", "small/w", "not on the same filesystem", "--work"});
  CHECK(names_in(place.at("small")).empty());
}

TEST_CASE("layers and mount points that overlap are refused", "[E-03]") {
  const Place place;
  make_dirs(place.at("l0/in"));
  make_dirs(place.at("u/in"));
  SECTION("upper inside a lower") {
    check_refused(place.sh("layerfs mount l0 l0/in m"), {"l0/in", "overlap"});
  }
  SECTION("lower inside the upper") {
    check_refused(place.sh("layerfs mount u/in u m"), {"u/in", "overlap"});
  }
  SECTION("mount point inside a lower") {
    check_refused(place.sh("layerfs mount l0 u l0/in"), {"l0/in", "inside lower layer"});
  }
  SECTION("mount point inside the upper") {
    check_refused(place.sh("layerfs mount l0 u u/in"), {"u/in", "inside upper directory"});
  }
  SECTION("work directory inside a lower") {
    write_file(place.at("l0/in/precious"), "x");
    check_refused(place.sh("layerfs mount l0 u m --work l0/in"), {"l0/in", "overlap"});
    CHECK(names_in(place.at("l0/in")) == Names{"precious"});
  }
  SECTION("work directory inside a lower, not made yet") {
    check_refused(place.sh("layerfs mount l0 u m --work l0/new"), {"l0/new", "overlap"});
  }
  SECTION("work directory inside the upper") {
    check_refused(place.sh("layerfs mount l0 u m --work u/w"), {"u/w", "overlap"});
  }
  CHECK(names_in(place.at("")) == Names{"l0", "m", "u"});
  CHECK(names_in(place.at("l0")) == Names{"in"});
  CHECK(names_in(place.at("u")) == Names{"in"});
}

TEST_CASE("what is missing or no directory is named", "[E-04]") {
  const Place place;
  write_file(place.at("f"), "");
  check_refused(place.sh("layerfs mount none u m"), {"lower layer", "none", "No such file"});
  check_refused(place.sh("layerfs mount f u m"), {"lower layer", "/f", "Not a directory"});
  check_refused(place.sh("layerfs mount l0 none m"), {"upper directory", "none", "No such file"});
  check_refused(place.sh("layerfs mount l0 f m"), {"upper directory", "/f", "Not a directory"});
  check_refused(place.sh("layerfs mount l0 u none"), {"mount point", "none", "No such file"});
  check_refused(place.sh("layerfs mount l0 u m --log-file none/log"), {"none/log", "--log-file"});
  CHECK(names_in(place.at("")) == Names{"f", "l0", "m", "u"});
}

TEST_CASE("a layer that the user may not read is an error, not an empty layer", "[E-05]") {
  const Place place;
  place.make_users_own();
  const mode_t mode = GENERATE(0700, 0711, 0744);
  CAPTURE(mode);
  REQUIRE(::chmod(place.at("l0").c_str(), mode) == 0);
  check_refused(place.as_nobody("layerfs mount l0 user/u user/m"),
                {"lower layer", "/l0", "Permission denied", "permissions"});
  CHECK(names_in(place.at("user")) == Names{"m", "u"});
}

TEST_CASE("a mount refused by fusermount3 gives its reason in the one line and leaves nothing",
          "[E-06]") {
  if (::access("/dev/fuse", R_OK | W_OK) != 0) {
    SKIP_TEST("no /dev/fuse");
  }
  const Place place;
  place.make_users_own();
  const std::string options = GENERATE("", "--volatile");
  CAPTURE(options);
  const std::string command = "layerfs mount l0 user/u user/m " + options;
  SECTION("a mount point of somebody else") {
    check_refused(place.as_nobody("layerfs mount l0 user/u m " + options),
                  {"/m", "fusermount3: user has no write access to mountpoint"});
  }
  SECTION("no fusermount3") {
    const std::string hide =
        "for f in /bin/fusermount3 /usr/bin/fusermount3 "
        "/usr/local/bin/fusermount3; do test ! -e \\$f || mount --bind /dev/null \\$f; done; ";
    check_refused(
        place.sh("unshare -m sh -c \"" + hide +
                 "exec setpriv --reuid 65534 --regid 65534 --clear-groups " + command + "\""),
        {"user/m", "fuse3 must be installed"});
  }
  SECTION("no /dev/fuse") {
    check_refused(place.sh("unshare -m sh -c \"mount -t tmpfs none /dev; "
                           "exec setpriv --reuid 65534 --regid 65534 --clear-groups " +
                           command + "\""),
                  {"/dev/fuse", "No such file", "load the fuse module"});
  }
  CHECK(names_in(place.at("user")) == Names{"m", "u"});
  CHECK(names_in(place.at("user/u")).empty());
  CHECK(::listxattr(place.at("user/u").c_str(), nullptr, 0) == 0);
  CHECK_FALSE(is_mounted(place.at("user/m")));
  const CommandResult retry = place.as_nobody(command);
  CHECK(retry.output.empty());
  CHECK(place.as_nobody("layerfs umount user/m").code == 0);
}

TEST_CASE("a mount that fails leaves no mark on the upper, nor takes one that was there",
          "[E-15]") {
  const Place place;
  const bool marked = GENERATE(false, true);
  CAPTURE(marked);
  const std::string name = "user.containers.override_stat";
  if (marked) {
    REQUIRE(::setxattr(place.at("u").c_str(), name.c_str(), "0:0:755", 7, 0) == 0);
  }
  check_refused(place.sh("unshare -m sh -c \"mount -t tmpfs none /dev; "
                         "layerfs mount l0 u m --override-stat on\""),
                {"/dev/fuse"});
  CHECK((::getxattr(place.at("u").c_str(), name.c_str(), nullptr, 0) >= 0) == marked);
  CHECK(names_in(place.at("")) == Names{"l0", "m", "u"});
}

TEST_CASE("a work directory that was used outlives a mount that fails", "[E-07]") {
  const Place place;
  write_file(place.at("l0/a"), "x");
  REQUIRE(::link(place.at("l0/a").c_str(), place.at("l0/b").c_str()) == 0);
  REQUIRE(place.sh("layerfs mount l0 u m && echo y >>m/a && layerfs umount m").code == 0);
  const Names index = names_in(place.at(".u.layerfs-work/layerfs.index"));
  REQUIRE(index.size() == 1);
  check_refused(place.sh("unshare -m sh -c \"mount -t tmpfs none /dev; layerfs mount l0 u m\""),
                {"/dev/fuse"});
  CHECK(names_in(place.at(".u.layerfs-work/layerfs.index")) == index);
}

TEST_CASE("a full upper is ENOSPC for the writer, and the tree stays whole", "[E-08]") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  const Place place;
  make_dirs(place.at("small"));
  REQUIRE(::mount("none", place.at("small").c_str(), "tmpfs", 0, "size=4m") == 0);
  make_dirs(place.at("small/u"));
  write_file(place.at("l0/kept"), std::string(8 << 20, 'k'));
  const std::string mount = "layerfs mount l0 small/u m --io " + io;
  REQUIRE(place.sh(mount).code == 0);
  const int fd = ::open(place.at("m/big").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
  REQUIRE(fd >= 0);
  const std::string block(1 << 20, 'b');
  int error = 0;
  for (int i = 0; i < 8 && error == 0; ++i) {
    error = ::write(fd, block.data(), block.size()) < 0 ? errno : 0;
  }
  error = error == 0 && ::fsync(fd) < 0 ? errno : error;
  error = ::close(fd) < 0 && error == 0 ? errno : error;
  CHECK(error == ENOSPC);
  CHECK(::truncate(place.at("m/kept").c_str(), (8 << 20) - 1) < 0);  // its copy has no room
  CHECK(errno == ENOSPC);
  CHECK(names_in(place.at("m")) == Names{"big", "kept"});
  CHECK(std::filesystem::file_size(place.at("m/kept")) == 8U << 20);
  CHECK(::unlink(place.at("m/big").c_str()) == 0);
  wait_for_room(place.at("small"), 4096 * 4);
  write_file(place.at("m/small"), "fits");
  CHECK(place.sh("layerfs umount m").output.empty());
  CHECK(place.sh(mount).output.empty());
  CHECK(names_in(place.at("m")) == Names{"kept", "small"});
  CHECK(read_file(place.at("m/small")) == "fits");
  CHECK(place.sh("layerfs umount m").code == 0);
  CHECK(names_in(place.at("small/.u.layerfs-work/work")).empty());
}

TEST_CASE("passthrough is refused to whom the kernel refuses it, and not replaced in silence",
          "[E-11]") {
  const Place place;
  place.make_users_own();
  check_refused(place.as_nobody("layerfs mount l0 user/u user/m --io passthrough"),
                {"--io passthrough cannot be had", "--io auto"});
  CHECK(names_in(place.at("user")) == Names{"m", "u"});
  CHECK_FALSE(is_mounted(place.at("user/m")));
  CHECK(place.as_nobody("layerfs mount l0 user/u user/m --io auto").output.empty());
  CHECK(place.as_nobody("layerfs stats user/m").output.find("io cached") != std::string::npos);
  CHECK(place.as_nobody("layerfs umount user/m").code == 0);
}

TEST_CASE(
    "auto passes data through where root asked for it could have it, but not of stacked layers",
    "[E-11]") {
  const Place place;
  const auto io_of = [&](const std::string& layers) {
    REQUIRE(place.sh("layerfs mount " + layers + " m").output.empty());
    const std::string stats = place.sh("layerfs stats m").output;
    REQUIRE(place.sh("layerfs umount m").code == 0);
    return stats.find("io passthrough") != std::string::npos ? "passthrough" : "cached";
  };
  if (place.sh("layerfs mount l0 u m --io passthrough && layerfs umount m").code != 0) {
    SKIP_TEST("passthrough cannot be had here");
  }
  CHECK(io_of("l0 u") == std::string("passthrough"));
  CHECK(io_of("l0") == std::string("passthrough"));
  REQUIRE(place
              .sh("mkdir ou ow stacked && "
                  "mount -t overlay none -o lowerdir=l0,upperdir=ou,workdir=ow stacked")
              .code == 0);
  CHECK(io_of("stacked:l0 u") == std::string("cached"));
  REQUIRE(place.sh("umount stacked").code == 0);
}

TEST_CASE("the mount of somebody else is not unmounted, and its daemon does not answer", "[E-12]") {
  const Place place;
  place.make_users_own();
  REQUIRE(place.sh("layerfs mount l0 u m").output.empty());
  check_refused(place.as_nobody("layerfs umount m"), {"/m", "mounted by user 0", "as root"}, 1,
                "umount");
  check_refused(place.as_nobody("layerfs stats m"), {"/m", "refuses to answer user 65534"}, 1,
                "stats");
  check_refused(place.as_nobody("layerfs which m"), {"/m", "refuses to answer user 65534"}, 1,
                "which");
  CHECK(is_mounted(place.at("m")));
  CHECK(place.sh("layerfs umount m").output.empty());
}

TEST_CASE("umount says when it cannot wait for the daemon", "[E-13]") {
  const Place place;
  REQUIRE(place.sh("layerfs mount l0 u m").output.empty());
  check_refused(place.sh("unshare --net layerfs umount m"),
                {"/m", "is unmounted", "could not be waited for", "network namespace"}, 1,
                "umount");
  CHECK_FALSE(is_mounted(place.at("m")));
}

TEST_CASE("root sees that the daemon of a user's mount is dead, and replaces the mount", "[E-14]") {
  const Place place;
  place.make_users_own();
  const std::string mount_and_kill =
      "sh -c \"layerfs mount l0 user/u user/m; "
      "kill -9 \\$(layerfs stats --json user/m | grep -o pid...[0-9]* | grep -o [0-9]*)\"";
  REQUIRE(place.as_nobody(mount_and_kill).output.empty());
  check_refused(place.sh("layerfs stats user/m"), {"user/m", "its daemon is gone", "umount"}, 1,
                "stats");
  const CommandResult again = place.sh("layerfs mount l0 u user/m");
  CHECK(again.code == 0);
  CHECK(again.output.find("whose daemon is gone; it is replaced") != std::string::npos);
  CHECK(place.sh("layerfs umount user/m").output.empty());
  CHECK_FALSE(is_mounted(place.at("user/m")));
}

TEST_CASE("usage errors exit with 2 and point to the help", "[E-09]") {
  const Place place;
  const std::string words = GENERATE(
      "l0 u m --bogus", "l0 u m -o bogus", "l0", "", "l0 u m --io fast", "l0 u m --threads many",
      "l0 u m --timeout -1", "l0 u m --uidmapping 1:2", "l0 u m --whiteout none");
  CAPTURE(words);
  check_refused(place.sh("layerfs mount " + words), {"--help"}, 2);
  CHECK(names_in(place.at("")) == Names{"l0", "m", "u"});
}

TEST_CASE("a daemon whose starter dies before the mount answers unmounts and ends", "[E-10]") {
  const Place place;
  const std::string config = R"({"lowers":["l0"],"upper":"u","mountpoint":"m","foreground":true})";
  write_file(place.at("config"), config);
  // The status pipe has lost its reader before the daemon starts.
  const CommandResult result = place.sh(
      "mkfifo p; sleep 0.2 <p & exec 4>p; wait; "
      "timeout 20 layerfsd --config-fd 3 --status-fd 4 3<config");
  CAPTURE(result.output);
  CHECK(result.code == 0);
  CHECK_FALSE(is_mounted(place.at("m")));
  CHECK_FALSE(exists(place.at(".u.layerfs-work")));
}
