// Many layers.
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "tests/testlib/test_mount.h"

using namespace layerfs::testing;

namespace {

constexpr std::size_t kLayers = 500;

std::string numbered(const std::string& prefix, std::size_t n) {
  return prefix + std::to_string(n);
}

}  // namespace

TEST_CASE("500 lowers are one tree, to read and to change", "[S-01][S-02]") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  TestMount mount(kLayers);
  for (std::size_t i = 0; i < kLayers; ++i) {
    make_dirs(mount.lower(i) + "/d/" + numbered("sub", i % 10));
    write_file(mount.lower(i) + "/d/" + numbered("own", i), numbered("layer ", i));
    write_file(mount.lower(i) + "/d/shared", numbered("layer ", i));
    write_file(mount.lower(i) + "/d/" + numbered("sub", i % 10) + numbered("/in", i), "");
  }
  // Hidden by a layer half way down, and made again further up.
  for (const char* name : {"/d/gone", "/d/again"}) {
    write_file(mount.lower(kLayers - 1) + name, "bottom");
    REQUIRE(::mknod((mount.lower(250) + name).c_str(), S_IFCHR, makedev(0, 0)) == 0);
  }
  write_file(mount.lower(100) + "/d/again", "again");
  make_dirs(mount.lower(200) + "/opaque");
  REQUIRE(::setxattr((mount.lower(200) + "/opaque").c_str(), "trusted.overlay.opaque", "y", 1, 0) ==
          0);
  make_dirs(mount.lower(400) + "/opaque");
  write_file(mount.lower(400) + "/opaque/below", "");
  mount.mount("--io " + io);
  const auto check = [&](std::size_t changed) {
    CHECK(names_in(mount.at("d")).size() == kLayers + 10 + 2);
    CHECK(read_file(mount.at("d/shared")) == "layer 0");
    CHECK_FALSE(exists(mount.at("d/gone")));
    CHECK(read_file(mount.at("d/again")) == "again");
    CHECK(names_in(mount.at("opaque")).empty());
    CHECK(names_in(mount.at("d/sub3")).size() == kLayers / 10);
    CHECK(stat_of(mount.at("d")).st_nlink == 12);
    for (std::size_t i = 0; i < kLayers; i += 49) {
      CHECK(read_file(mount.at("d/" + numbered("own", i))) ==
            (i < changed ? "changed" : numbered("layer ", i)));
    }
  };
  check(0);
  for (std::size_t i = 0; i < 250; ++i) {
    write_file(mount.at("d/" + numbered("own", i)), "changed");
  }
  check(250);
  mount.remount();
  check(250);
  REQUIRE(::rename(mount.at("d").c_str(), mount.at("moved").c_str()) == 0);
  REQUIRE(::rename(mount.at("moved").c_str(), mount.at("d").c_str()) == 0);
  mount.remount();
  check(250);
  REQUIRE(run("rm -r " + mount.at("d")).code == 0);
  mount.remount();
  CHECK(names_in(mount.at("")) == std::vector<std::string>{"opaque"});
  CHECK(read_file(mount.lower(7) + "/d/own7") == "layer 7");
}

TEST_CASE("what was seen once of 500 lowers is not asked of them again") {
  TestMount mount(kLayers);
  for (std::size_t i = 0; i < kLayers; ++i) {
    make_dirs(mount.lower(i) + "/d");
    write_file(mount.lower(i) + "/d/" + numbered("own", i), "");
  }
  mount.mount("");
  names_in(mount.at("d"));
  CHECK_FALSE(exists(mount.at("d/missing")));
  const auto before = mount.requests();
  for (int i = 0; i < 100; ++i) {
    names_in(mount.at("d"));
    CHECK_FALSE(exists(mount.at("d/missing")));
    CHECK(exists(mount.at("d/" + numbered("own", kLayers - 1))));
  }
  CHECK(total(asked(before, mount.requests())) <= 2);
}
