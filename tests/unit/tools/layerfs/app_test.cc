// Whole command lines in process; a recorder or the fake daemon in the daemon's place.
#include "tools/layerfs/app.h"

#include <signal.h>
#include <sys/mount.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "layers/sys/unique_fd.h"
#include "tests/testlib/skip.h"
#include "tests/unit/tools/fake_mount.h"
#include "tests/unit/tools/ran.h"
#include "tools/common/mount_table.h"

using namespace layerfs;
using namespace layerfs::testing;
using Strings = std::vector<std::string>;

namespace {

Ran run(const Strings& arguments, const Outcome<int>& answer = 0) {
  return run_recorded(arguments, answer);
}

bool is_one_line(const std::string& text) {
  return !text.empty() && text.find('\n') == text.size() - 1;
}

}  // namespace

TEST_CASE("help and version go to stdout with code 0") {
  CHECK(run({"layerfs", "--help"}).out.find("Usage: layerfs COMMAND") == 0);
  CHECK(run({"layerfs", "-h"}).code == 0);
  CHECK(run({"layerfs", "--version"}).out.find("layerfs ") == 0);
  CHECK(run({"layerfs", "-V"}).code == 0);
  const std::string help = run({"layerfs", "--help"}).out;
  for (const CommandEntry& entry : all_commands()) {
    const std::string name(entry.name);
    const Ran ran = run({"layerfs", name, "--help"});
    CHECK(ran.code == 0);
    CHECK(ran.err.empty());
    CHECK(ran.out.find("Usage: layerfs " + name) == 0);
    CHECK(help.find("\n  " + name + " ") != std::string::npos);
  }
}

TEST_CASE("usage errors: code 2, one line, nothing tried") {
  const std::vector<Strings> lines = {
      {"layerfs"},
      {"layerfs", "frobnicate"},
      {"layerfs", "--frobnicate"},
      {"layerfs", "mount"},
      {"layerfs", "mount", "/m"},
      {"layerfs", "mount", "a", "b", "c", "d"},
      {"layerfs", "mount", "a::b", "/m"},
      {"layerfs", "mount", "", "/m"},
      {"layerfs", "mount", "a", ""},
      {"layerfs", "mount", "a", "", "/m"},
      {"layerfs", "mount", "a", "/m", "--io", "fast"},
      {"layerfs", "mount", "a", "/m", "--work", "w"},
      {"layerfs", "mount", "a", "/m", "--threads", "many"},
      {"layerfs", "mount", "a", "/m", "--timeout", "-1"},
      {"layerfs", "mount", "a", "/m", "--uidmapping", "0:1"},
      {"layerfs", "mount", "a", "/m", "-o", "frobnicate"},
      {"layerfs", "mount", "a", "/m", "-o", "lowerdir=b"},
      {"layerfs", "mount", "a", "u", "/m", "-o", "upperdir=v"},
      {"layerfs", "umount"},
      {"layerfs", "umount", "a", "b"},
      {"layerfs", "umount", "a", "--timeout", "x"},
      {"layerfs", "stats"},
      {"layerfs", "stats", "a", "--watch=0"},
      {"layerfs", "which"},
  };
  for (const Strings& line : lines) {
    const Ran ran = run(line);
    INFO(ran.err);
    CHECK(ran.code == 2);
    CHECK(is_one_line(ran.err));
    CHECK(ran.err.find("--help'") != std::string::npos);
    CHECK(ran.out.empty());
    CHECK(!ran.config);
  }
}

TEST_CASE("the daemon's refusal is one line after the command's name, with code 1") {
  const Ran ran = run({"layerfs", "mount", "a", "/m"}, failed("'a' is not there; make it"));
  CHECK(ran.code == 1);
  CHECK(ran.err == "layerfs: mount: 'a' is not there; make it\n");
}

TEST_CASE("in the foreground the daemon's code is the program's") {
  CHECK(run({"layerfs", "mount", "-f", "a", "/m"}, 130).code == 130);
}

TEST_CASE("two names: layers and mount point; three: an upper between them") {
  const Ran two = run({"layerfs", "mount", "a:b", "/m"});
  REQUIRE(two.config);
  CHECK(two.code == 0);
  CHECK(two.config->lowers == Strings{"a", "b"});
  CHECK(two.config->upper.empty());
  CHECK(two.config->mountpoint == "/m");
  const Ran three = run({"layerfs", "mount", "a", "u", "/m"});
  REQUIRE(three.config);
  CHECK(three.config->upper == "u");
}

TEST_CASE("escapes hold for layers and not for the mount point") {
  const Ran ran = run({"layerfs", "mount", R"(a\:b:c\\d)", R"(u\:p)", R"(/m\:n)", "--work",
                       R"(w\:k)", "--init", "i:n"});
  REQUIRE(ran.config);
  CHECK(ran.config->lowers == Strings{"a:b", R"(c\d)"});
  CHECK(ran.config->upper == "u:p");
  CHECK(ran.config->work == "w:k");
  CHECK(ran.config->init == "i:n");
  CHECK(ran.config->mountpoint == R"(/m\:n)");
}

TEST_CASE("directories named like commands are directories") {
  const Ran ran = run({"layerfs", "mount", "mount", "stats", "umount"});
  REQUIRE(ran.config);
  CHECK(ran.config->lowers == Strings{"mount"});
  CHECK(ran.config->upper == "stats");
  CHECK(ran.config->mountpoint == "umount");
}

TEST_CASE("every long option reaches the configuration") {
  const Ran ran = run({"layerfs",
                       "mount",
                       "a",
                       "u",
                       "/m",
                       "--init",
                       "i",
                       "--work",
                       "w",
                       "--foreground",
                       "--io",
                       "cached",
                       "--whiteout",
                       "oci",
                       "--xattr",
                       "user",
                       "--volatile",
                       "--no-allow-other",
                       "--read-only",
                       "--threads",
                       "3",
                       "--timeout",
                       "1.5",
                       "--log-level",
                       "debug",
                       "--log-file",
                       "log",
                       "--squash-to-uid",
                       "5",
                       "--squash-to-gid",
                       "6",
                       "--uidmapping",
                       "0:1:2",
                       "--gidmapping",
                       ":0:3:4",
                       "--redirect",
                       "off",
                       "--metacopy",
                       "off",
                       "--index",
                       "off",
                       "--no-acl",
                       "--override-stat",
                       "on",
                       "--static-nlink",
                       "--fsname",
                       "n"});
  REQUIRE(ran.config);
  MountConfig expected;
  expected.lowers = {"a"};
  expected.upper = "u";
  expected.mountpoint = "/m";
  expected.init = "i";
  expected.work = "w";
  expected.foreground = true;
  expected.io = MountConfig::Io::Cached;
  expected.whiteout = MountConfig::Whiteout::Oci;
  expected.xattr = MountConfig::Xattr::User;
  expected.volatile_ = true;
  expected.allow_other = MountConfig::AllowOther::No;
  expected.read_only = true;
  expected.threads = 3;
  expected.timeout = 1.5;
  expected.log_level = MountConfig::LogLevel::Debug;
  expected.log_file = "log";
  expected.squash_uid = 5;
  expected.squash_gid = 6;
  expected.uid_map = {{0, 1, 2}};
  expected.gid_map = {{0, 3, 4}};
  expected.redirect = false;
  expected.metacopy = false;
  expected.index = false;
  expected.acl = false;
  expected.override_stat = MountConfig::OverrideStat::On;
  expected.static_nlink = true;
  expected.fsname = "n";
  CHECK(to_json_text(*ran.config) == to_json_text(expected));
}

TEST_CASE("the same as words of -o, in the spellings of overlayfs and fuse-overlayfs") {
  const Ran ran = run({"layerfs", "mount", "/m", "-o",
                       R"(lowerdir=a\:x:b,upperdir=u,workdir=w,init=i,foreground,io=cached)", "-o",
                       "whiteout=oci,userxattr,volatile,no_allow_other,ro,threads=3,timeout=1.5",
                       "-olog_level=debug,log-file=log,squash_to_uid=5,squash_to_gid=6", "-o",
                       "uidmapping=0:1:2,gidmapping=:0:3:4,redirect_dir=off,metacopy=off,index=off",
                       "-o", R"(noacl,override_stat=on,static_nlink,fsname="n,m")"});
  INFO(ran.err);
  REQUIRE(ran.config);
  const Ran plain = run({"layerfs",
                         "mount",
                         R"(a\:x:b)",
                         "u",
                         "/m",
                         "--init",
                         "i",
                         "--work",
                         "w",
                         "-f",
                         "--io",
                         "cached",
                         "--whiteout",
                         "oci",
                         "--xattr",
                         "user",
                         "--volatile",
                         "--no-allow-other",
                         "--read-only",
                         "--threads",
                         "3",
                         "--timeout",
                         "1.5",
                         "--log-level",
                         "debug",
                         "--log-file",
                         "log",
                         "--squash-to-uid",
                         "5",
                         "--squash-to-gid",
                         "6",
                         "--uidmapping",
                         "0:1:2",
                         "--gidmapping",
                         "0:3:4",
                         "--redirect",
                         "off",
                         "--metacopy",
                         "off",
                         "--index",
                         "off",
                         "--no-acl",
                         "--override-stat",
                         "on",
                         "--static-nlink",
                         "--fsname",
                         "n,m"});
  REQUIRE(plain.config);
  CHECK(to_json_text(*ran.config) == to_json_text(*plain.config));
}

TEST_CASE("lowerdir+ adds one layer below the others, also where one argument cannot hold all") {
  const Ran ran =
      run({"layerfs", "mount", "/m", "-o", "lowerdir=a:b,lowerdir+=c\\:d", "-o", "lowerdir+=e"});
  REQUIRE(ran.config);
  CHECK(ran.config->lowers == Strings{"a", "b", "c:d", "e"});
  CHECK(run({"layerfs", "mount", "/m", "-o", "lowerdir+="}).code == 2);
}

TEST_CASE("a message is one line whatever is in a name") {
  const Ran ran = run({"layerfs", "umount", "/no\nwhere\x1b"});
  CHECK(is_one_line(ran.err));
  CHECK(ran.err.find("'/no\\012where\\033'") != std::string::npos);
}

TEST_CASE("the last word wins") {
  const Ran ran = run({"layerfs", "mount", "a", "/m", "--acl", "--no-acl", "-o", "acl", "-o",
                       "nosuid,nodev,suid", "--io", "cached", "--io", "auto", "-o", "ro,rw", "-o",
                       "volatile,volatile=off"});
  REQUIRE(ran.config);
  CHECK(ran.config->acl);
  CHECK(ran.config->io == MountConfig::Io::Auto);
  CHECK(!ran.config->read_only);
  CHECK(!ran.config->volatile_);
  CHECK(ran.config->mount_flags == Strings{"nodev", "suid"});
}

TEST_CASE("words for mount(8), systemd and people are taken and change nothing") {
  const Ran ran =
      run({"layerfs", "mount", "a", "/m", "-o",
           "defaults,auto,noauto,nofail,_netdev,rw,x-systemd.requires=/x,X-mount.mkdir,"
           "comment=\"a, "
           "b\",exec,atime,relatime,strictatime,lazytime,async,nouser,default_permissions"});
  INFO(ran.err);
  REQUIRE(ran.config);
  const Ran plain = run({"layerfs", "mount", "a", "/m"});
  CHECK(to_json_text(*ran.config) == to_json_text(*plain.config));
}

TEST_CASE("user and users mean noexec, nosuid and nodev, unless said otherwise later") {
  CHECK(run({"layerfs", "mount", "a", "/m", "-o", "users"}).config->mount_flags ==
        Strings{"nodev", "noexec", "nosuid"});
  CHECK(run({"layerfs", "mount", "a", "/m", "-o", "user=bob,exec,dev"}).config->mount_flags ==
        Strings{"dev", "nosuid"});
  CHECK(run({"layerfs", "mount", "a", "/m", "-o", "owner"}).config->mount_flags ==
        Strings{"nodev", "nosuid"});
}

TEST_CASE("mount.layerfs: as mount(8) calls it") {
  const Ran ran = run({"/sbin/mount.layerfs", "src", "/m", "-sv", "-o",
                       "rw,lowerdir=a:b,upperdir=u,workdir=w,frobnicate", "-t", "fuse.layerfs"});
  INFO(ran.err);
  CHECK(ran.code == 0);
  REQUIRE(ran.config);
  CHECK(ran.config->lowers == Strings{"a", "b"});
  CHECK(ran.config->upper == "u");
  CHECK(ran.config->work == "w");
  CHECK(ran.config->fsname == "src");
  CHECK(ran.config->mountpoint == "/m");
  CHECK(ran.out == "mount.layerfs: mounted on /m\n");
}

TEST_CASE("layerfs SOURCE TARGET -o: as mount.fuse3 calls it") {
  const Ran ran = run({"layerfs", "src", "/m", "-o", "rw,dev,suid,lowerdir=a"});
  REQUIRE(ran.config);
  CHECK(ran.config->fsname == "src");
  CHECK(ran.config->mount_flags == Strings{"dev", "suid"});
}

TEST_CASE("mount.layerfs: the codes of mount(8)") {
  const Strings good = {"mount.layerfs", "s", "/m", "-o", "lowerdir=a"};
  CHECK(run(good).code == 0);
  const Ran refused = run(good, failed("no"));
  CHECK(refused.code == 32);
  CHECK(refused.err == "mount.layerfs: no\n");
  CHECK(run({"mount.layerfs", "s", "/m"}).code == 1);
  CHECK(run({"mount.layerfs", "s"}).code == 1);
  CHECK(run({"mount.layerfs", "s", "/m", "-o", "lowerdir=a,frobnicate"}).code == 1);
  CHECK(run({"mount.layerfs", "s", "/m", "-q"}).code == 1);
  CHECK(run({"mount.layerfs", "s", "/m", "-o"}).code == 1);
  CHECK(run({"mount.layerfs", "s", "/m", "-o", "rw,user_id=0,remount,ro"}).code == 32);
  CHECK(run({"mount.layerfs", "s", "/m", "-N", "/proc/1/ns/mnt", "-o", "lowerdir=a"}).code == 32);
  CHECK(run({"mount.layerfs", "--help"}).code == 0);
}

TEST_CASE("mount.layerfs -f mounts nothing but checks the options") {
  const Ran ran = run({"mount.layerfs", "-f", "s", "/m", "-o", "lowerdir=a"});
  CHECK(ran.code == 0);
  CHECK(!ran.config);
  CHECK(run({"mount.layerfs", "-f", "s", "/m", "-o", "lowerdir=a::"}).code == 1);
}

TEST_CASE("umount, stats and which refuse what is no layerfs, and name it") {
  for (const Strings& line :
       {Strings{"layerfs", "umount", "/"}, Strings{"layerfs", "stats", "/"},
        Strings{"layerfs", "which", "/bin"}, Strings{"layerfs", "umount", "/nowhere/at/all"}}) {
    const Ran ran = run(line);
    INFO(ran.err);
    CHECK(ran.code == 1);
    CHECK(is_one_line(ran.err));
    CHECK(ran.err.find("'" + line.back() + "'") != std::string::npos);
  }
}

TEST_CASE("umount returns when the daemon is gone") {
  FakeMount fake;
  if (!fake.can_mount()) {
    SKIP_TEST("mounting FUSE is not permitted here");
  }
  REQUIRE(fake.start("linger"));
  const Ran ran = run({"layerfs", "umount", fake.mountpoint});
  INFO(ran.err);
  CHECK(ran.code == 0);
  CHECK(!fake.is_mounted());
  CHECK(fake.daemon_is_gone());
}

TEST_CASE("umount --timeout: gives up waiting, and says that the mount is gone") {
  FakeMount fake;
  if (!fake.can_mount()) {
    SKIP_TEST("mounting FUSE is not permitted here");
  }
  REQUIRE(fake.start("linger"));
  const Ran ran = run({"layerfs", "umount", fake.mountpoint, "--timeout", "0.05"});
  INFO(ran.out + ran.err);
  CHECK(ran.code == 1);
  CHECK(ran.err.find("is unmounted, but layerfsd") != std::string::npos);
  CHECK(!fake.is_mounted());
}

TEST_CASE("umount of a busy mount fails and names the user; --lazy detaches it") {
  FakeMount fake;
  if (!fake.can_mount()) {
    SKIP_TEST("mounting FUSE is not permitted here");
  }
  REQUIRE(fake.start("ok"));
  {
    const std::filesystem::path before = std::filesystem::current_path();
    std::filesystem::current_path(fake.mountpoint);
    const Ran busy = run({"layerfs", "umount", fake.mountpoint});
    std::filesystem::current_path(before);
    CHECK(busy.code == 1);
    CHECK(is_one_line(busy.err));
    CHECK(busy.err.find("is busy") != std::string::npos);
    CHECK(busy.err.find("umount --lazy") != std::string::npos);
    CHECK(fake.is_mounted());
  }
  CHECK(run({"layerfs", "umount", fake.mountpoint, "--lazy"}).code == 0);
  CHECK(!fake.is_mounted());
}

TEST_CASE("umount names what is mounted inside") {
  FakeMount fake;
  if (!fake.can_mount()) {
    SKIP_TEST("mounting FUSE is not permitted here");
  }
  REQUIRE(fake.start("ok"));
  REQUIRE(::mount("t", fake.mountpoint.c_str(), "tmpfs", 0, nullptr) == 0);
  const Ran wrong = run({"layerfs", "umount", fake.mountpoint});
  CHECK(wrong.code == 1);
  CHECK(wrong.err.find("tmpfs") != std::string::npos);
  REQUIRE(::umount(fake.mountpoint.c_str()) == 0);
  CHECK(run({"layerfs", "umount", fake.mountpoint}).code == 0);
}

TEST_CASE("umount works when the daemon has been killed") {
  FakeMount fake;
  if (!fake.can_mount()) {
    SKIP_TEST("mounting FUSE is not permitted here");
  }
  REQUIRE(fake.start("ok"));
  fake.kill_daemon();
  const Ran stats = run({"layerfs", "stats", fake.mountpoint});
  CHECK(stats.code == 1);
  CHECK(stats.err.find("its daemon is gone") != std::string::npos);
  CHECK(run({"layerfs", "umount", fake.mountpoint}).code == 0);
  CHECK(!fake.is_mounted());
}

TEST_CASE("stats: the daemon's document, and a table of it") {
  FakeMount fake;
  if (!fake.can_mount()) {
    SKIP_TEST("mounting FUSE is not permitted here");
  }
  REQUIRE(fake.start("ok"));
  const Ran json = run({"layerfs", "stats", fake.mountpoint, "--json"});
  CHECK(json.code == 0);
  CHECK(is_one_line(json.out));
  CHECK(nlohmann::json::parse(json.out)["requests"]["LOOKUP"]["count"] == 4);
  const Ran table = run({"layerfs", "stats", fake.mountpoint});
  CHECK(table.out.find("LOOKUP") != std::string::npos);
  CHECK(table.out.find("up 1 min 01 s") != std::string::npos);
}

TEST_CASE("which: provider and what hides below; one failure does not stop the others") {
  FakeMount fake;
  if (!fake.can_mount()) {
    SKIP_TEST("mounting FUSE is not permitted here");
  }
  REQUIRE(fake.start("ok"));
  const Ran ran = run({"layerfs", "which", fake.mountpoint + "/gone", fake.mountpoint + "/there"});
  CHECK(ran.code == 1);
  CHECK(ran.err == "layerfs: which: '" + fake.mountpoint + "/gone': No such file or directory\n");
  CHECK(ran.out == fake.mountpoint +
                       "/there: file\n"
                       "  upper     /u/there\n"
                       "  lower[1]  /l/there  (hidden file)\n");
  const Ran json = run({"layerfs", "which", "--json", fake.mountpoint + "/there"});
  CHECK(json.code == 0);
  CHECK(nlohmann::json::parse(json.out)["provider"]["layer"] == "upper");
}
