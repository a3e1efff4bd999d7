// `layerfs check` on directories, in process.
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "tests/testlib/skip.h"
#include "tests/testlib/tree_maker.h"
#include "tests/unit/tools/ran.h"

using namespace layerfs;
using namespace layerfs::testing;
using Catch::Matchers::Contains;

namespace {

Ran check(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {"layerfs", "check"});
  return run_program(arguments);
}

// What the upper shows over the lower, by name and kind.
std::string shown(const TempDir& dir) {
  const Ran ran = run_program({"layerfs", "diff", dir / "u", "--lower", dir / "l"});
  REQUIRE(ran.code == 0);
  return ran.out;
}

// Mends, and checks that nothing is left to find and the same is shown.
void check_mending(const TempDir& dir) {
  const std::string before = shown(dir);
  const Ran mended = check({dir / "u", "--lower", dir / "l", "--repair"});
  INFO(mended.out);
  CHECK(mended.code == 0);
  CHECK(mended.err.empty());
  const Ran again = check({dir / "u", "--lower", dir / "l"});
  CHECK(again.code == 0);
  CHECK(again.out.empty());
  CHECK(shown(dir) == before);
}

}  // namespace

TEST_CASE("check: an upper whose marks all mean something has no findings") {
  const TempDir dir;
  make_tree(dir / "l", {"d/gone=1", "d/kept=1", "e/old=1", "replaced/in=1"});
  make_tree(dir / "u", {"d/.wh.gone=", "d/new=1", "e/.wh..wh..opq=", "e/new=1",
                        ".wh.replaced=", "replaced/other=1"});
  const Ran ran = check({dir / "u", "--lower", dir / "l"});
  CHECK(ran.code == 0);
  CHECK(ran.out.empty());
  CHECK(ran.err.empty());
}

TEST_CASE("check: whiteouts that hide nothing are found and removed, those that hide are kept") {
  const TempDir dir;
  make_tree(dir / "l", {"d/gone=1", "opaque/gone=1"});
  make_tree(
      dir / "u",
      {"d/.wh.gone=", "d/.wh.idle=", "new/.wh.idle=", "opaque/.wh..wh..opq=", "opaque/.wh.gone="});
  const struct stat before = stat_of(dir / "u/d");
  const Ran ran = check({dir / "u", "--lower", dir / "l"});
  CHECK(ran.code == 1);
  CHECK_THAT(ran.out, Contains("/u/d/idle: a whiteout that hides nothing"));
  CHECK_THAT(ran.out, Contains("/u/new/idle: "));
  CHECK_THAT(ran.out, Contains("/u/opaque/gone: "));
  CHECK_THAT(ran.out, !Contains("/u/d/gone"));
  CHECK_THAT(ran.err, Contains("3 of 3 findings are not mended"));
  CHECK(exists(dir / "u/d/.wh.idle"));
  // Without the lowers nobody can say what a whiteout hides.
  CHECK(check({dir / "u", "--repair"}).code == 0);
  CHECK(exists(dir / "u/d/.wh.idle"));
  check_mending(dir);
  CHECK(names_in(dir / "u/d") == std::vector<std::string>{".wh.gone"});
  CHECK(names_in(dir / "u/new").empty());
  CHECK(stat_of(dir / "u/d").st_mtim.tv_sec == before.st_mtim.tv_sec);
}

TEST_CASE("check: whiteouts in the form of overlayfs are found and removed") {
  const TempDir dir;
  make_tree(dir / "l", {"d/gone=1"});
  make_tree(dir / "u", {"d/"});
  if (::mknod((dir / "u/d/gone").c_str(), S_IFCHR, makedev(0, 0)) < 0 ||
      ::mknod((dir / "u/d/idle").c_str(), S_IFCHR, makedev(0, 0)) < 0) {
    SKIP_TEST("a device 0:0 cannot be made here");
  }
  CHECK(check({dir / "u", "--lower", dir / "l"}).code == 1);
  check_mending(dir);
  CHECK(names_in(dir / "u/d") == std::vector<std::string>{"gone"});
}

TEST_CASE("check: a redirect that leads nowhere is made opaque, and nothing comes up below it") {
  if (!has_user_xattrs()) {
    SKIP_TEST("no user attributes");
  }
  const TempDir dir;
  make_tree(dir / "l", {"there/in=1", "moved/old=1", "bad/old=1"});
  make_tree(dir / "u",
            {"good/", "good#user.overlay.redirect=/there", "moved/new=1",
             "moved#user.overlay.redirect=/nowhere", "bad/", "bad#user.overlay.redirect=../x"});
  const Ran ran = check({dir / "u", "--lower", dir / "l"});
  CHECK(ran.code == 1);
  CHECK_THAT(ran.out, Contains("/u/moved: a directory that was renamed"));
  CHECK_THAT(ran.out, Contains("/u/bad: "));
  CHECK_THAT(ran.out, !Contains("/u/good"));
  CHECK(check({dir / "u", "--lower", dir / "l", "--repair"}).code == 0);
  CHECK(check({dir / "u", "--lower", dir / "l"}).out.empty());
  const std::string now = shown(dir);
  CHECK_THAT(now, Contains("D /moved/old"));
  CHECK_THAT(now, Contains("D /bad/old"));
  CHECK_THAT(now, Contains("A /good/in"));
  CHECK(::getxattr((dir / "u/moved").c_str(), "user.overlay.redirect", nullptr, 0) < 0);
}

TEST_CASE("check: attributes whose data is in no lower are told of and stay") {
  if (!has_user_xattrs()) {
    SKIP_TEST("no user attributes");
  }
  const TempDir dir;
  make_tree(dir / "l", {"there=1"});
  make_tree(dir / "u",
            {"there=", "there#user.overlay.metacopy=", "lost=", "lost#user.overlay.metacopy="});
  const Ran ran = check({dir / "u", "--lower", dir / "l", "--repair"});
  CHECK(ran.code == 1);
  CHECK_THAT(ran.out, Contains("/u/lost: has attributes only"));
  CHECK_THAT(ran.out, !Contains("/u/there"));
  CHECK(::getxattr((dir / "u/lost").c_str(), "user.overlay.metacopy", nullptr, 0) == 0);
}

TEST_CASE(
    "check: what is left in the work directory is removed, the mark of a volatile mount stays") {
  const TempDir dir;
  make_tree(dir / "u", {"f=1"});
  make_tree(dir / "w", {"work/left1/deep/f=1", "work/left2=", "work/incompat/volatile/",
                        "layerfs.index/what="});
  const std::vector<std::string> arguments = {dir / "u", "--work", dir / "w"};
  const Ran ran = check(arguments);
  CHECK(ran.code == 1);
  CHECK_THAT(ran.out, Contains("/w/work/left1: left in the work directory"));
  CHECK_THAT(ran.out, Contains("/w/work/incompat/volatile: a volatile mount did not end"));
  CHECK_THAT(ran.out, Contains("/w/layerfs.index/what: no name of an entry"));
  CHECK_THAT(ran.err, Contains("4 of 4"));
  CHECK(names_in(dir / "w/work").size() == 3);
  const Ran mended = check({dir / "u", "--work", dir / "w", "--repair"});
  CHECK_THAT(mended.err, Contains("1 of 4"));
  CHECK(names_in(dir / "w/work") == std::vector<std::string>{"incompat"});
  CHECK(exists(dir / "w/work/incompat/volatile"));
  CHECK(names_in(dir / "w/layerfs.index").empty());
}

TEST_CASE("check: JSON, one document a finding") {
  const TempDir dir;
  make_tree(dir / "l", {"a=1"});
  make_tree(dir / "u", {".wh.idle="});
  const Ran ran = check({dir / "u", "--lower", dir / "l", "--json", "--repair"});
  CHECK(ran.code == 0);
  CHECK(nlohmann::json::parse(ran.out) ==
        nlohmann::json{{"finding", "idle-whiteout"}, {"path", dir / "u/idle"}, {"mended", true}});
}

TEST_CASE("check: a work directory or upper that is not there is named") {
  const TempDir dir;
  make_tree(dir / "u", {"f=1"});
  const Ran work = check({dir / "u", "--work", dir / "none"});
  CHECK(work.code == 1);
  CHECK_THAT(work.err, Contains("work directory '" + (dir / "none") + "'"));
  CHECK(check({dir / "none"}).code == 1);
  CHECK(check({}).code == 2);
  CHECK(check({dir / "u", dir / "u"}).code == 2);
}
