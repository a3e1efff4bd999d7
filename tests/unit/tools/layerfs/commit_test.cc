// `layerfs commit` of a layer, in process.
#include <sys/file.h>
#include <unistd.h>

#include <fcntl.h>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "layers/sys/unique_fd.h"
#include "tests/testlib/tree_maker.h"
#include "tests/unit/tools/ran.h"

using namespace layerfs;
using namespace layerfs::testing;

namespace {

Ran commit(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {"layerfs", "commit"});
  return run_program(arguments);
}

}  // namespace

TEST_CASE("commit: the name of the file chooses the compression, the digest is told") {
  const TempDir dir;
  make_tree(dir / "l", {"a=1"});
  make_tree(dir / "u", {"b=2"});
  make_tree(dir / "out", {});
  std::string diff_id;
  for (const auto& [name, magic] : {std::pair{"x.tar", "b"}, std::pair{"x.tar.gz", "\x1f\x8b"},
                                    std::pair{"x.tar.zst", "\x28\xb5"}}) {
    const Ran ran = commit({dir / "u", "--lower", dir / "l", "-o", dir / "out/" + name, "--json"});
    CAPTURE(ran.err);
    REQUIRE(ran.code == 0);
    CHECK(read_file(dir / "out/" + name).starts_with(magic));
    const auto told = nlohmann::json::parse(ran.out);
    CHECK(told["entries"] == 1);
    CHECK((diff_id.empty() || told["diff_id"] == diff_id));
    diff_id = told["diff_id"];
  }
  CHECK(names_in(dir / "out").size() == 3);
}

TEST_CASE("commit: --squash takes all layers") {
  const TempDir dir;
  make_tree(dir / "l", {"a=1", "gone=1"});
  make_tree(dir / "u", {"b=2", ".wh.gone="});
  make_tree(dir / "flat", {"a=1", "b=2"});
  const auto digest = [&](const std::vector<std::string>& words) {
    std::vector<std::string> line = words;
    line.insert(line.end(), {"-o", dir / "x.tar", "--json"});
    const Ran ran = commit(line);
    CAPTURE(ran.err);
    REQUIRE(ran.code == 0);
    return nlohmann::json::parse(ran.out)["digest"].get<std::string>();
  };
  CHECK(digest({dir / "u", "--lower", dir / "l", "--squash"}) ==
        digest({dir / "flat", "--squash"}));
}

TEST_CASE("commit: what is in an --empty directory is left out, the directory is not") {
  const TempDir dir;
  make_tree(dir / "l", {"a=1", "v/old=1"});
  make_tree(dir / "u", {"v/new=1", "v/.wh.old=", "v/d/x=1", "vv=1"});
  const auto entries = [&](const std::string& upper, const std::vector<std::string>& more) {
    std::vector<std::string> line = {upper, "--lower", dir / "l", "-o", dir / "x.tar", "--json"};
    line.insert(line.end(), more.begin(), more.end());
    const Ran ran = commit(line);
    CAPTURE(ran.err);
    REQUIRE(ran.code == 0);
    return nlohmann::json::parse(ran.out)["entries"].get<int>();
  };
  CHECK(entries(dir / "u", {}) == 6);
  CHECK(entries(dir / "u", {"--empty", "/v/", "--empty", "none"}) == 2);
  CHECK(entries(dir / "u", {"--empty", "v/d"}) == 5);
  for (const char* wrong : {"/", "", "v/../w"}) {
    CHECK(commit({dir / "u", "--lower", dir / "l", "-o", dir / "x.tar", "--empty", wrong}).code ==
          2);
  }
}

TEST_CASE("commit: a failure leaves neither the file nor a part of it, nor harms an old one") {
  const TempDir dir;
  make_tree(dir / "l", {"a=1"});
  make_tree(dir / "u", {"p|"});
  make_tree(dir / "out", {"x.tar=old"});
  make_tree(dir / "u", {"@0700"});
  const Ran ran = commit({dir / "u", "--lower", dir / "l", "-o", dir / "out/x.tar", "--strict"});
  CHECK(ran.code == 1);
  CHECK(ran.err.find("root directory") != std::string::npos);
  CHECK(names_in(dir / "out") == std::vector<std::string>{"x.tar"});
  CHECK(read_file(dir / "out/x.tar") == "old");
}

TEST_CASE("commit: an upper that a mount uses is refused") {
  const TempDir dir;
  make_tree(dir / "l", {"a=1"});
  make_tree(dir / "u", {"b=1"});
  const UniqueFd held(::open((dir / "u").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  REQUIRE(::flock(held.get(), LOCK_EX | LOCK_NB) == 0);
  const Ran ran = commit({dir / "u", "--lower", dir / "l", "-o", dir / "x.tar"});
  CHECK(ran.code == 1);
  CHECK(ran.err.find("mount point") != std::string::npos);
  CHECK_FALSE(exists(dir / "x.tar"));
}

TEST_CASE("commit: SOURCE_DATE_EPOCH caps times, and must be a number") {
  const TempDir dir;
  make_tree(dir / "l", {"a=1"});
  make_tree(dir / "u1", {"b=1", "b~2000000000"});
  make_tree(dir / "u2", {"b=1", "b~1999999999"});
  const auto digest = [&](const std::string& upper) {
    const Ran ran = commit({upper, "--lower", dir / "l", "-o", dir / "x.tar", "--json"});
    REQUIRE(ran.code == 0);
    return nlohmann::json::parse(ran.out)["digest"].get<std::string>();
  };
  CHECK(digest(dir / "u1") != digest(dir / "u2"));
  ::setenv("SOURCE_DATE_EPOCH", "1500000000", 1);
  CHECK(digest(dir / "u1") == digest(dir / "u2"));
  ::setenv("SOURCE_DATE_EPOCH", "soon", 1);
  CHECK(commit({dir / "u1", "--lower", dir / "l", "-o", dir / "x.tar"}).code == 1);
  ::unsetenv("SOURCE_DATE_EPOCH");
}

TEST_CASE("commit: an image has the lowers as layers, or those of its base") {
  const TempDir dir;
  make_tree(dir / "l1", {"a=1"});
  make_tree(dir / "l2", {"b=1"});
  make_tree(dir / "u", {"c=1"});
  const auto image = [&](const std::vector<std::string>& words) {
    std::vector<std::string> line = {dir / "u", "--lower", dir / "l2:" + dir.at("l1"), "--json"};
    line.insert(line.end(), words.begin(), words.end());
    const Ran ran = commit(line);
    CAPTURE(ran.err);
    REQUIRE(ran.code == 0);
    return nlohmann::json::parse(ran.out);
  };
  const auto whole = image({"--oci", dir / "img:t"});
  REQUIRE(whole["layers"].size() == 3);
  const auto on_top = image({"--oci", dir / "img:u", "--base", "oci:" + dir.at("img:t")});
  REQUIRE(on_top["layers"].size() == 4);
  CHECK(on_top["layers"][3] == whole["layers"][2]);
  CHECK(on_top["layers"][0] == whole["layers"][0]);
  const auto squashed =
      image({"--oci", dir / "img:s", "--base", "oci:" + dir.at("img:t"), "--squash"});
  CHECK(squashed["layers"].size() == 1);
  // The same image again is the same bytes.
  CHECK(image({"--oci", dir / "other:t"})["digest"] == whole["digest"]);
  CHECK(image({"--oci-archive", dir / "x.tar:t"})["digest"] == whole["digest"]);
}

TEST_CASE("commit: a damaged layer of a base is refused, also where only its tar has a digest") {
  const TempDir dir;
  make_tree(dir / "l", {"a=1"});
  make_tree(dir / "u", {"b=1"});
  const std::vector<std::string> layers = {dir / "u", "--lower", dir / "l"};
  const auto with = [&layers](std::vector<std::string> words) {
    words.insert(words.begin(), layers.begin(), layers.end());
    return commit(words);
  };
  REQUIRE(with({"--docker-archive", dir / "base.tar:x:1"}).code == 0);
  const std::string base = "docker-archive:" + dir.at("base.tar");
  REQUIRE(with({"--oci", dir / "good:t", "--base", base}).code == 0);
  // Behind the header of the first gzip member.
  std::string bytes = read_file(dir / "base.tar");
  const std::size_t header = bytes.find("\x1f\x8b\x08");
  REQUIRE(header != std::string::npos);
  bytes[header + 20] ^= 1;
  write_file(dir / "base.tar", bytes);
  const Ran ran = with({"--oci", dir / "bad:t", "--base", base});
  CHECK(ran.code == 1);
  CHECK(ran.err.find("layer 1 of docker-archive:") != std::string::npos);
  CHECK_FALSE(exists(dir / "bad"));
}

TEST_CASE("commit: an upper without changes adds history but no layer") {
  const TempDir dir;
  make_tree(dir / "l", {"a=1"});
  make_tree(dir / "u", {});
  const Ran ran = commit({dir / "u", "--lower", dir / "l", "--oci", dir / "img:t", "--json",
                          "--change", "CMD x", "--message", "only settings"});
  CAPTURE(ran.err);
  REQUIRE(ran.code == 0);
  const auto told = nlohmann::json::parse(ran.out);
  CHECK(told["layers"].size() == 1);
  const std::string id = told["id"];
  const auto config =
      nlohmann::json::parse(read_file(dir / "img/blobs/sha256/" + id.substr(id.find(':') + 1)));
  REQUIRE(config["history"].size() == 2);
  CHECK(config["history"][1]["empty_layer"] == true);
  CHECK(config["history"][1]["comment"] == "only settings");
  CHECK(config["config"]["Cmd"][2] == "x");
}

TEST_CASE("commit: what an image cannot carry is an error with --strict and leaves no image") {
  const TempDir dir;
  make_tree(dir / "l", {"a=1"});
  make_tree(dir / "u", {"b=1", "@0700"});
  CHECK(commit({dir / "u", "--lower", dir / "l", "--oci", dir / "img:t", "--strict"}).code == 1);
  CHECK_FALSE(exists(dir / "img"));
}

TEST_CASE("commit: usage errors") {
  const TempDir dir;
  make_tree(dir / "u", {});
  CHECK(commit({}).code == 2);
  CHECK(commit({dir / "u", "-o", dir / "x.tar"}).code == 2);
  CHECK(commit({dir / "u", "--lower", dir / "u"}).code == 2);
  CHECK(commit({dir / "u", "--lower", dir / "u", "-o", "x", "--compression", "lzma"}).code == 2);
  CHECK(commit({dir / "u", "--lower", dir / "u", "-o", dir / "x.tar.xz"}).code == 2);
  CHECK(commit({dir / "u", "--lower", dir / "u", "-o", dir / "none/x.tar"}).code == 1);
  CHECK(commit({dir / "u", "--lower", dir / "u", "-o", "x", "--oci", "y:z"}).code == 2);
  CHECK(commit({dir / "u", "--lower", dir / "u", "--oci", "y"}).code == 2);
  CHECK(commit({dir / "u", "--lower", dir / "u", "-o", "x", "--author", "me"}).code == 2);
  CHECK(commit({dir / "u", "--lower", dir / "u", "--oci", "y:z", "-c", "RUN x"}).code == 2);
  CHECK(commit({dir / "u", "--lower", dir / "u", "--oci", "y:z", "--base", "x"}).code == 2);
}
