// `layerfs check` of uppers that real mounts have written.
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "tests/testlib/test_mount.h"

using namespace layerfs::testing;

namespace {

void populate(const std::string& dir) {
  make_dirs(dir + "/dir/sub");
  make_dirs(dir + "/tree/a/b");
  for (const char* name : {"/dir/one", "/dir/two", "/dir/sub/three", "/tree/a/b/four", "/file"}) {
    write_file(dir + name, "content");
  }
  for (const char* name : {"/link1", "/link2", "/dir/link3"}) {
    REQUIRE(::link((dir + "/file").c_str(), (dir + name).c_str()) == 0);
  }
}

// Everything that leaves a mark.
void work_on(const TestMount& mount) {
  const auto at = [&](const char* path) { return mount.at(path); };
  REQUIRE(::rename(at("dir").c_str(), at("renamed").c_str()) == 0);
  REQUIRE(::unlink(at("renamed/one").c_str()) == 0);
  REQUIRE(::rename(at("renamed/sub").c_str(), at("tree/sub").c_str()) == 0);
  REQUIRE(::mkdir(at("dir").c_str(), 0755) == 0);
  write_file(at("dir/new"), "new");
  REQUIRE(run("rm -r " + at("tree/a")).code == 0);
  REQUIRE(::mkdir(at("tree/a").c_str(), 0755) == 0);
  REQUIRE(::chmod(at("renamed/two").c_str(), 0600) == 0);
  REQUIRE(::rename(at("renamed/two").c_str(), at("two").c_str()) == 0);
  write_file(at("link1"), "through a link");
  REQUIRE(::unlink(at("link2").c_str()) == 0);
  REQUIRE(::link(at("file").c_str(), at("link4").c_str()) == 0);
}

CommandResult check(const TestMount& mount, const std::string& options = "") {
  return run("layerfs check " + mount.upper() + " --lower " + mount.lower() + " " + options);
}

}  // namespace

TEST_CASE("an upper that a mount has left by itself has no findings") {
  const std::string options = GENERATE(as<std::string>(), "", "--whiteout oci", "--xattr user",
                                       "--redirect off", "--index off", "--metacopy off");
  CAPTURE(options);
  TestMount mount;
  populate(mount.lower());
  mount.mount(options);
  if (options == "--redirect off") {
    REQUIRE(run("rm -r " + mount.at("dir/sub") + " && mkdir " + mount.at("dir/sub")).code == 0);
  } else {
    work_on(mount);
  }
  mount.unmount();
  const CommandResult result = check(mount);
  CHECK(result.output.empty());
  CHECK(result.code == 0);
}

TEST_CASE("an upper that is mounted is refused, and so is its work directory") {
  TestMount mount;
  const std::string work = mount.base() + "/w";
  make_dirs(mount.base() + "/u2");
  mount.mount("--work " + work);
  for (const std::string& arguments : {mount.upper(), mount.base() + "/u2", mount.at("")}) {
    CAPTURE(arguments);
    const CommandResult result = run("layerfs check --work " + work + " " + arguments);
    CHECK(result.code != 0);
    CHECK(result.output.find("mount") != std::string::npos);
  }
}

TEST_CASE("names that a lost work directory has parted are one file again after --repair",
          "[S-08]") {
  TestMount mount;
  populate(mount.lower());
  mount.mount("");
  write_file(mount.at("link1"), "through a link");
  mount.unmount();
  REQUIRE(run("rm -r " + mount.base() + "/.u.layerfs-work").code == 0);
  mount.mount("");
  CHECK(read_file(mount.at("file")) == "content");
  mount.unmount();
  const CommandResult found = check(mount);
  CAPTURE(found.output);
  CHECK(found.code == 1);
  CHECK(found.output.find("/u/link1: its other names show an old copy") != std::string::npos);
  CHECK(check(mount, "--repair").code == 0);
  CHECK(check(mount).output.empty());
  mount.mount("");
  for (const char* name : {"file", "link1", "link2", "dir/link3"}) {
    CAPTURE(name);
    CHECK(read_file(mount.at(name)) == "through a link");
    CHECK(stat_of(mount.at(name)).st_nlink == 4);
  }
}

TEST_CASE("an index entry that counts wrong is set right, and one that no name shows is removed") {
  TestMount mount;
  populate(mount.lower());
  mount.mount("");
  REQUIRE(::chmod(mount.at("link1").c_str(), 0600) == 0);
  mount.unmount();
  const std::string index = mount.base() + "/.u.layerfs-work/layerfs.index";
  // The names go while no mount counts them.
  SECTION("one of them") {
    REQUIRE(::unlink((mount.lower() + "/link2").c_str()) == 0);
    CHECK(check(mount, "--repair").code == 0);
    mount.mount("");
    CHECK(stat_of(mount.at("file")).st_nlink == 3);
    mount.unmount();
  }
  SECTION("all of them") {
    for (const char* name : {"/file", "/link1", "/link2", "/dir/link3"}) {
      REQUIRE(::unlink((mount.lower() + name).c_str()) == 0);
    }
    REQUIRE(::unlink((mount.upper() + "/link1").c_str()) == 0);
    CHECK(names_in(index).size() == 1);
    CHECK(check(mount, "--repair").code == 0);
    CHECK(names_in(index).empty());
  }
  CHECK(check(mount).output.empty());
}
