#include <catch2/catch.hpp>

#include <sstream>

#include "tests/unit/tools/ran.h"
#include "tools/overlay/overlay_program.h"

using namespace layerfs;
using namespace layerfs::testing;
using Strings = std::vector<std::string>;

namespace {

// No daemon is started.
Ran run(const Strings& arguments) {
  std::ostringstream out;
  std::ostringstream err;
  Ran ran;
  ran.code = overlay_program("fuse-overlayfs", arguments, {out, err},
                             [&](const MountConfig& config, const auto& /*note*/) {
                               ran.config = config;
                               return Outcome<int>(0);
                             });
  ran.out = out.str();
  ran.err = err.str();
  return ran;
}

}  // namespace

TEST_CASE("fuse-overlayfs: what podman gives for a container is a mount") {
  const Ran ran = run({"-o",
                       "lowerdir=l/A:l/B,upperdir=/s/diff,workdir=/s/work,volatile,"
                       "context=\"system_u:object_r:container_file_t:s0:c1,c2\","
                       "uidmapping=:0:1000:1:1:110000:65536,gidmapping=:0:1000:1",
                       "/s/merged"});
  CHECK(ran.code == 0);
  CHECK(ran.err.empty());
  REQUIRE(ran.config);
  CHECK(ran.config->lowers == Strings{"l/A", "l/B"});
  CHECK(ran.config->upper == "/s/diff");
  CHECK(ran.config->work == "/s/work");
  CHECK(ran.config->mountpoint == "/s/merged");
  CHECK(ran.config->volatile_);
  CHECK(ran.config->uid_map == std::vector<IdRange>{{0, 1000, 1}, {1, 110000, 65536}});
  CHECK(ran.config->gid_map == std::vector<IdRange>{{0, 1000, 1}});
}

TEST_CASE("fuse-overlayfs: the upper can be read without the mount, unless asked otherwise") {
  const Ran plain = run({"-o", "lowerdir=l,upperdir=u,workdir=w", "/m"});
  REQUIRE(plain.config);
  CHECK_FALSE(plain.config->redirect);
  CHECK_FALSE(plain.config->metacopy);
  CHECK_FALSE(plain.config->index);
  CHECK(plain.config->unmapped_as_overflow);
  CHECK(plain.config->accept_unclean);
  const Ran asked =
      run({"-o", "lowerdir=l,upperdir=u,workdir=w,redirect_dir=on,metacopy=on,index=on", "/m"});
  REQUIRE(asked.config);
  CHECK(asked.config->redirect);
  CHECK(asked.config->metacopy);
  CHECK(asked.config->index);
}

TEST_CASE("fuse-overlayfs: every option of its own is understood") {
  const Ran ran = run({"-f", "-olowerdir=l,upperdir=u", "-o",
                       "workdir=w,timeout=5,threaded=0,fsync=0,fast_ino=1,writeback=0,noxattrs=1,"
                       "xattr_permissions=2,squash_to_root,static_nlink,noacl,xino=auto,"
                       "redirect_dir=off,ino32_t,dev,suid,exec,noatime,rw,allow_other,"
                       "default_permissions,max_write=4096,kernel_cache",
                       "overlay", "/m"});
  INFO(ran.err);
  CHECK(ran.code == 0);
  CHECK(ran.err.empty());
  REQUIRE(ran.config);
  CHECK(ran.config->foreground);
  CHECK(ran.config->timeout == 5);
  CHECK(ran.config->volatile_);
  CHECK_FALSE(ran.config->xattrs);
  CHECK(ran.config->override_stat == MountConfig::OverrideStat::On);
  CHECK(ran.config->squash_uid == 0);
  CHECK(ran.config->squash_gid == 0);
  CHECK(ran.config->static_nlink);
  CHECK_FALSE(ran.config->acl);
  CHECK(ran.config->allow_other == MountConfig::AllowOther::Yes);
  CHECK(ran.config->mountpoint == "/m");
  CHECK(run({"-o", "lowerdir=l,squash_to_uid=7,squash_to_gid=8", "/m"}).config->squash_uid == 7);
  CHECK(run({"-o", "lowerdir=l,xattr_permissions=1", "/m"}).config->override_stat ==
        MountConfig::OverrideStat::Security);
}

TEST_CASE("fuse-overlayfs: no devices and no access times, unless the options say otherwise") {
  const auto flags = [](const std::string& words) {
    const Ran ran = run({"-o", "lowerdir=l" + words, "/m"});
    REQUIRE(ran.config);
    return ran.config->mount_flags;
  };
  CHECK(flags("") == Strings{"noatime", "nodev"});
  CHECK(flags(",dev,suid") == Strings{"noatime", "dev", "suid"});
  CHECK(flags(",atime,nosuid") == Strings{"nodev", "nosuid"});
}

TEST_CASE("fuse-overlayfs: of several words the last is the mount point") {
  const Ran ran = run({"-o", "lowerdir=l", "a", "b", "/m"});
  REQUIRE(ran.config);
  CHECK(ran.config->mountpoint == "/m");
  CHECK(ran.config->lowers == Strings{"l"});
}

TEST_CASE("fuse-overlayfs: an unknown option is told of in its words and ignored") {
  const Ran unknown = run({"-q", "--frobnicate", "-o", "lowerdir=l,frobnicate=1,lazy", "/m"});
  CHECK(unknown.code == 0);
  CHECK(unknown.config);
  CHECK(unknown.err ==
        "unknown argument ignored: -q\n"
        "unknown argument ignored: --frobnicate\n"
        "unknown argument ignored: frobnicate=1\n"
        "unknown argument ignored: lazy\n");
}

TEST_CASE("fuse-overlayfs: a colon in a path may be escaped for version 1 or 2") {
  for (const char* colon : {"\\:", "\\\\:"}) {
    const std::string c = colon;
    const Ran ran =
        run({"-o", "lowerdir=a" + c + "1:b,upperdir=u" + c + "2,workdir=w" + c + "3", "/m"});
    REQUIRE(ran.config);
    CHECK(ran.config->lowers == Strings{"a:1", "b"});
    CHECK(ran.config->upper == "u:2");
    CHECK(ran.config->work == "w:3");
  }
}

TEST_CASE("fuse-overlayfs: version 2's names of options are understood") {
  const Ran ran = run({"-o", "lowerdir=l,sync=0,fast_ino_check=1,debug,volatile", "/m"});
  CHECK(ran.err.empty());
  REQUIRE(ran.config);
  CHECK(ran.config->volatile_);
  CHECK(ran.config->foreground);
  CHECK(ran.config->log_level == MountConfig::LogLevel::Debug);
}

TEST_CASE("fuse-overlayfs: what cannot be done is refused with code 1 and one line") {
  for (const Strings& line : std::vector<Strings>{{},
                                                  {"/m"},
                                                  {"-o"},
                                                  {"-o", "lowerdir=l"},
                                                  {"-o", "lowerdir=l,plugins=a.so", "/m"},
                                                  {"-o", "lowerdir=//stargz/x/l", "/m"},
                                                  {"-o", "lowerdir=l,xattr_permissions=9", "/m"},
                                                  {"-o", "lowerdir=l,uidmapping=1:2", "/m"},
                                                  {"-o", "lowerdir=l,redirect_dir=follow", "/m"}}) {
    const Ran ran = run(line);
    INFO(ran.err);
    CHECK(ran.code == 1);
    CHECK_FALSE(ran.config);
    CHECK(ran.err.starts_with("fuse-overlayfs: "));
    CHECK(ran.err.find('\n') == ran.err.size() - 1);
  }
}

TEST_CASE("fuse-overlayfs: help and version, as scripts read them") {
  for (const char* option : {"--version", "-V"}) {
    const Ran ran = run({option});
    CHECK(ran.code == 0);
    CHECK(ran.out.starts_with("fuse-overlayfs: version 1."));
  }
  CHECK(run({"--help"}).code == 0);
  CHECK(run({"-h"}).out.starts_with("Usage: fuse-overlayfs "));
}
