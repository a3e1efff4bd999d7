// `layerfs unpack`, `store`, `squash` and `convert`, in process.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "layers/sys/unique_fd.h"
#include "tests/testlib/skip.h"
#include "tests/testlib/tree_maker.h"
#include "tests/unit/tools/ran.h"

using namespace layerfs;
using namespace layerfs::testing;
using Words = std::vector<std::string>;

namespace {

Ran layerfs_run(Words words) {
  words.insert(words.begin(), "layerfs");
  return run_program(words);
}

Ran must(const Words& words) {
  const Ran ran = layerfs_run(words);
  CAPTURE(words, ran.err);
  REQUIRE(ran.code == 0);
  return ran;
}

// Two layers and an image of them.
void make_image(const TempDir& dir) {
  make_tree(dir / "l", {"a=1", "gone=1"});
  make_tree(dir / "u", {"b=2", ".wh.gone="});
  must({"commit", dir / "u", "--lower", dir / "l", "--oci", dir / "img:t"});
}

}  // namespace

TEST_CASE("unpack: prints the layers, the topmost first, and JSON the bottom one first") {
  const TempDir dir;
  make_image(dir);
  const Ran ran = must({"unpack", "oci:" + dir.at("img:t"), dir / "s"});
  REQUIRE(ran.out.starts_with("--layers "));
  const std::string stack = ran.out.substr(9, ran.out.size() - 10);
  const std::size_t cut = stack.find(':');
  CHECK(read_file(stack.substr(0, cut) + "/b") == "2");
  CHECK(read_file(stack.substr(cut + 1) + "/a") == "1");
  const auto told =
      nlohmann::json::parse(must({"unpack", "oci:" + dir.at("img:t"), dir / "s", "--json"}).out);
  CHECK(told["stack"] == stack);
  CHECK(told["layers"][0]["path"] == stack.substr(cut + 1));
  CHECK(told["layers"][0]["reused"] == true);
}

TEST_CASE("unpack: layers in files are unpacked, and share the store with images") {
  const TempDir dir;
  make_image(dir);
  must({"commit", dir / "l", "--squash", "-o", dir / "l.tar.zst"});
  must({"unpack", "oci:" + dir.at("img:t"), dir / "s"});
  const auto told =
      nlohmann::json::parse(must({"unpack", dir / "l.tar.zst", dir / "s", "--json"}).out);
  CHECK(told["layers"][0]["reused"] == true);
  CHECK(layerfs_run({"unpack", dir / "l", dir / "s"}).code == 1);
  CHECK(layerfs_run({"unpack", dir / "none.tar", dir / "s"}).code == 1);
  CHECK(layerfs_run({"unpack", "oci:" + dir.at("none"), dir / "s"}).code == 1);
}

TEST_CASE("unpack: a refused image is in no store") {
  const TempDir dir;
  make_image(dir);
  const Ran ran = layerfs_run({"unpack", "oci:" + dir.at("img:t"), dir / "s", "--limit", "1"});
  CHECK(ran.code == 1);
  CHECK(ran.err.find("--limit") != std::string::npos);
  const auto told = nlohmann::json::parse(must({"store", "ls", dir / "s", "--json"}).out);
  CHECK(told["images"].empty());
}

TEST_CASE("store: gc removes what no image needs, and nothing else") {
  const TempDir dir;
  make_image(dir);
  must({"commit", dir / "l", "--squash", "--oci", dir / "img:base"});
  must({"unpack", "oci:" + dir.at("img:t"), dir / "s", "--name", "top"});
  must({"unpack", "oci:" + dir.at("img:base"), dir / "s", "--name", "base"});
  const auto sizes = nlohmann::json::parse(must({"store", "du", dir / "s", "--json"}).out);
  CHECK(sizes["bytes"] == 3);
  CHECK(sizes["images"][0] == nlohmann::json({{"name", "base"}, {"bytes", 2}, {"own", 0}}));
  CHECK(sizes["images"][1] == nlohmann::json({{"name", "top"}, {"bytes", 3}, {"own", 1}}));
  must({"store", "gc", dir / "s"});
  CHECK(names_in(dir / "s/layers").size() == 2);
  must({"store", "rm", dir / "s", "top", "--dry-run"});
  must({"store", "rm", dir / "s", "top"});
  must({"store", "gc", dir / "s", "--dry-run"});
  CHECK(names_in(dir / "s/layers").size() == 2);
  must({"store", "gc", dir / "s"});
  CHECK(names_in(dir / "s/layers").size() == 1);
  CHECK(layerfs_run({"store", "rm", dir / "s", "top"}).code == 1);
}

TEST_CASE("store: gc leaves a layer that somebody has open") {
  const TempDir dir;
  make_image(dir);
  must({"unpack", "oci:" + dir.at("img:t"), dir / "s", "--name", "x"});
  must({"store", "rm", dir / "s", "x"});
  const std::string key = names_in(dir / "s/layers").front();
  {
    const UniqueFd held(
        ::open((dir / ("s/layers/" + key + "/diff")).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    REQUIRE(held);
    CHECK(must({"store", "gc", dir / "s"}).err.find("in use") != std::string::npos);
    CHECK(names_in(dir / "s/layers") == Words{key});
  }
  must({"store", "gc", dir / "s"});
  CHECK(names_in(dir / "s/layers").empty());
}

TEST_CASE("convert: there and back the layer means the same") {
  const TempDir dir;
  make_tree(dir / "l", {"d/", "d/.wh..wh..opq=", ".wh.x=", "f=1"});
  const auto there = layerfs_run({"convert", "--whiteout", "overlay", dir / "l"});
  if (there.code != 0) {
    SKIP_TEST("the filesystem of /var/tmp cannot hold overlay's marks");
  }
  CHECK(names_in(dir / "l") == Words{"d", "f", "x"});
  CHECK(S_ISCHR(stat_of(dir / "l/x").st_mode));
  CHECK(names_in(dir / "l/d").empty());
  CHECK(stat_of(dir / "l/d").st_mtime == 1000000000);
  const auto told =
      nlohmann::json::parse(must({"convert", "--whiteout", "oci", dir / "l", "--json"}).out);
  CHECK(told["marks"] == 2);
  CHECK(names_in(dir / "l") == Words{".wh.x", "d", "f"});
  CHECK(names_in(dir / "l/d") == Words{".wh..wh..opq"});
}

TEST_CASE("convert: completes what one that was killed began") {
  const TempDir dir;
  make_tree(dir / "l", {"d/", "d/.wh..wh..opq=", "d/.wh..wh.layerfs-convert=", ".wh.x=",
                        ".wh..wh.layerfs-convert/y=1"});
  if (layerfs_run({"convert", "--whiteout", "overlay", dir / "l"}).code != 0) {
    SKIP_TEST("the filesystem of /var/tmp cannot hold overlay's marks");
  }
  CHECK(names_in(dir / "l") == Words{"d", "x"});
  CHECK(names_in(dir / "l/d").empty());
  // Ended between the new mark and the removal of the old.
  make_tree(dir / "l", {"d/.wh..wh..opq=", ".wh.x="});
  must({"convert", "--whiteout", "oci", dir / "l"});
  CHECK(names_in(dir / "l") == Words{".wh.x", "d"});
  for (const char* name : {"trusted.overlay.opaque", "user.overlay.opaque"}) {
    CHECK(::lgetxattr((dir / "l/d").c_str(), name, nullptr, 0) == -1);
  }
  const auto told =
      nlohmann::json::parse(must({"convert", "--whiteout", "oci", dir / "l", "--json"}).out);
  CHECK(told["marks"] == 0);
  must({"convert", "--whiteout", "overlay", dir / "l"});
  CHECK(names_in(dir / "l/d").empty());
}

TEST_CASE("squash: files of all layers, and the marks that hide what is below them") {
  const TempDir dir;
  make_tree(dir / "l1", {"a=1", "gone=1", "d/old=1", "file-then-dir=1"});
  make_tree(dir / "l2", {"a=2", ".wh.gone=", ".wh.below=", ".wh.d=", "b=1"});
  make_tree(dir / "l3", {"d/new=1", "file-then-dir/x=1", "both/y=1"});
  must({"squash", dir / "l3:" + dir.at("l2:") + dir.at("l1"), dir / "out", "--whiteout", "oci"});
  CHECK(names_in(dir / "out") ==
        Words{".wh.below", ".wh.gone", "a", "b", "both", "d", "file-then-dir"});
  CHECK(read_file(dir / "out/a") == "2");
  CHECK(names_in(dir / "out/d") == Words{".wh..wh..opq", "new"});
  CHECK(names_in(dir / "out/file-then-dir") == Words{".wh..wh..opq", "x"});
  CHECK(names_in(dir / "out/both") == Words{"y"});
  CHECK(layerfs_run({"squash", dir / "l1", dir / "l2"}).code == 1);
  CHECK(read_file(dir / "l2/a") == "2");
}

TEST_CASE("convert: of the forms only those that it takes are offered") {
  const Ran ran = layerfs_run({"convert", "--whiteout", "auto", "x"});
  CHECK(ran.code == 2);
  CHECK(ran.err.find("'auto' is not one of overlay, oci;") != std::string::npos);
}

TEST_CASE("unpack and its kin: usage errors") {
  const TempDir dir;
  for (const Words& wrong :
       {Words{"unpack"}, Words{"unpack", "x"}, Words{"unpack", "oci:x", "y", "z"},
        Words{"unpack", "x", "y", "--limit", "5X"}, Words{"unpack", "x", "y", "--limit", "0"},
        Words{"store"}, Words{"store", "prune", "x"}, Words{"store", "ls"},
        Words{"store", "rm", "x"}, Words{"store", "ls", "x", "y"},
        Words{"store", "ls", "x", "--dry-run"}, Words{"squash", "x"},
        Words{"squash", "x", "y", "z"}, Words{"convert", "x"},
        Words{"convert", "--whiteout", "tar", "x"}, Words{"convert", "--whiteout", "oci"}}) {
    CAPTURE(wrong);
    CHECK(layerfs_run(wrong).code == 2);
  }
}
