// `layerfs diff` on directories, in process.
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/testlib/tree_maker.h"
#include "tests/unit/tools/ran.h"

using namespace layerfs;
using namespace layerfs::testing;

namespace {

Ran diff(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {"layerfs", "diff"});
  return run_program(arguments);
}

}  // namespace

TEST_CASE("diff: lines as docker prints them, then what differs and the sizes") {
  const TempDir dir;
  make_tree(dir / "l", {"d/gone=1", "d/grown=1", "d/mode=1", "d/same=1"});
  make_tree(dir / "u", {"d/.wh.gone=", "d/grown=123", "d/mode=1", "d/mode@0600", "d/same=1",
                        "d/new\n=12", "d/link->x"});
  const Ran ran = diff({dir / "u", "--lower", dir / "l"});
  CHECK(ran.err.empty());
  CHECK(ran.code == 0);
  CHECK(ran.out ==
        "C /d\n"
        "D /d/gone\t1\n"
        "C /d/grown\tcontent 1 -> 3\n"
        "A /d/link\n"
        "C /d/mode\tmode 1\n"
        "A /d/new\\x0a\t2\n");
}

TEST_CASE("diff: JSON, one document a line, holds every byte of a name") {
  const TempDir dir;
  make_tree(dir / "l", {"a=1"});
  make_tree(dir / "u", {"a=12", "b\xff=1"});
  const Ran ran = diff({dir / "u", "--lower", dir / "l", "--json"});
  REQUIRE(ran.code == 0);
  std::istringstream lines(ran.out);
  std::string line;
  REQUIRE(std::getline(lines, line));
  CHECK(nlohmann::json::parse(line) ==
        nlohmann::json::parse(R"({"change":"changed","path":"/a","type":"file",)"
                              R"("what":["content"],"size":2,"old_size":1})"));
  REQUIRE(std::getline(lines, line));
  CHECK(nlohmann::json::parse(line)["path"] == nlohmann::json{{"hex", "2f62ff"}});
}

TEST_CASE("diff: --stat counts changes but no directories above them") {
  const TempDir dir;
  make_tree(dir / "l", {"d/gone=123", "d/mode=1", "d/c=1"});
  make_tree(dir / "u", {"d/.wh.gone=", "d/new=12", "d/mode=1", "d/mode@0600", "d/c=2"});
  CHECK(diff({dir / "u", "--lower", dir / "l", "--stat"}).out ==
        "1 added, 2 bytes\n"
        "2 changed, 2 bytes (1 in content, 1 in attributes only)\n"
        "1 deleted, 3 bytes\n");
}

TEST_CASE("diff: two stacks, the earlier first") {
  const TempDir dir;
  make_tree(dir / "a", {"x=1"});
  make_tree(dir / "b", {"y=1"});
  CHECK(diff({dir / "a", dir / "b"}).out == "D /x\t1\nA /y\t1\n");
  CHECK(diff({dir / "a", (dir / "b") + ":" + (dir / "a")}).out == "A /y\t1\n");
}

TEST_CASE("diff: usage errors name what is missing, failures name the directory") {
  const TempDir dir;
  make_tree(dir / "u", {});
  CHECK(diff({}).code == 2);
  CHECK(diff({dir / "u"}).code == 2);
  CHECK(diff({dir / "u"}).err.find("--lower") != std::string::npos);
  CHECK(diff({dir / "u", dir / "u", "--lower", dir / "u"}).code == 2);
  CHECK(diff({dir / "u", "--lower", dir / "none"}).code == 1);
  CHECK(diff({dir / "u", "--lower", dir / "none"}).err.find(dir / "none") != std::string::npos);
  CHECK(diff({dir / "u", "--lower", dir / "u", "--work", dir / "none"}).code == 1);
}
