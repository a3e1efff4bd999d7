// Images written and read back, and images that are not as they should be.
#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <functional>

#include "tests/testlib/tree_maker.h"
#include "tools/oci/document.h"
#include "tools/oci/image_source.h"
#include "tools/oci/image_writer.h"

using namespace layerfs;
using namespace layerfs::oci;
using namespace layerfs::testing;
using nlohmann::json;

namespace {

ImageReference reference(const std::string& text) {
  const auto parsed = parse_image_reference(text);
  REQUIRE(parsed);
  return *parsed;
}

// An image of one layer without compression, whose bytes are these.
void write_image(
    const std::string& name, const std::string& layer, bool finish = true,
    const std::function<void()>& meanwhile = [] {}) {
  auto writer = ImageWriter::create(reference(name));
  INFO((writer ? "" : writer.error().message));
  REQUIRE(writer);
  const auto blob = (*writer)->write_blob(layer_media_type(Codec::None), layer);
  REQUIRE(blob);
  const json config = {
      {"os", "linux"},
      {"unknown", "kept"},
      {"rootfs", {{"type", "layers"}, {"diff_ids", json::array({blob->digest.text()})}}}};
  const auto config_blob = (*writer)->write_blob(kConfigType, print_document(config));
  REQUIRE(config_blob);
  const json manifest = {{"schemaVersion", 2},
                         {"config", to_json(*config_blob)},
                         {"layers", json::array({to_json(*blob)})}};
  const auto manifest_blob = (*writer)->write_blob(kManifestType, print_document(manifest));
  REQUIRE(manifest_blob);
  meanwhile();
  if (finish) {
    REQUIRE((*writer)->finish(*manifest_blob, *config_blob, {*blob}));
  }
}

std::string open_error(const std::string& name) {
  const auto source = ImageSource::open(reference(name));
  return source ? "" : source.error().message;
}

std::string layer_text(const std::string& name) {
  const auto source = ImageSource::open(reference(name));
  if (!source) {
    return source.error().message;
  }
  auto layer = source->open_layer(0);
  REQUIRE(layer);
  const auto text = read_all(**layer, 1 << 20, "layer");
  return text ? *text : text.error().message;
}

// Replaces the only blob whose content has `part`.
void damage_blob(const std::string& layout, const std::string& part, const std::string& content) {
  for (const std::string& name : names_in(layout + "/blobs/sha256")) {
    const std::string path = layout + "/blobs/sha256/" + name;
    if (read_file(path).find(part) != std::string::npos) {
      write_file(path, content);
      return;
    }
  }
  FAIL("no such blob");
}

}  // namespace

TEST_CASE("image: what is written in each form is read back") {
  const TempDir dir;
  const std::string text = std::string(100000, 'x') + "layer";
  for (const std::string& name :
       {"oci:" + dir.at("d") + ":t", "oci-archive:" + dir.at("a.tar") + ":t",
        "docker-archive:" + dir.at("k.tar") + ":some/name:t"}) {
    CAPTURE(name);
    write_image(name, text);
    const auto source = ImageSource::open(reference(name));
    REQUIRE(source);
    CHECK(source->image().config["unknown"] == "kept");
    REQUIRE(source->image().layers.size() == 1);
    CHECK(source->image().layers[0].diff_id == Digest::of(text));
    CHECK(layer_text(name) == text);
  }
  CHECK(layer_text("oci-archive:" + dir.at("k.tar") + ":docker.io/some/name:t") == text);
  CHECK(layer_text("docker-archive:" + dir.at("k.tar")) == text);
  CHECK(open_error("docker-archive:" + dir.at("k.tar") + ":other").find("some/name:t") !=
        std::string::npos);
}

TEST_CASE("image: the bytes of an archive depend on the image alone") {
  const TempDir dir;
  write_image("oci-archive:" + dir.at("a.tar") + ":t", "layer");
  write_image("oci-archive:" + dir.at("b.tar") + ":t", "layer");
  CHECK(read_file(dir.at("a.tar")) == read_file(dir.at("b.tar")));
}

TEST_CASE("image: a layout keeps its other images, and a tag is one image") {
  const TempDir dir;
  write_image("oci:" + dir.at("d") + ":one", "1");
  write_image("oci:" + dir.at("d") + ":two", "2");
  write_image("oci:" + dir.at("d") + ":one", "3");
  CHECK(layer_text("oci:" + dir.at("d") + ":one") == "3");
  CHECK(layer_text("oci:" + dir.at("d") + ":two") == "2");
  CHECK(open_error("oci:" + dir.at("d")).find("'two', 'one'") != std::string::npos);
  CHECK(open_error("oci:" + dir.at("d") + ":three").find("has no image 'three'") !=
        std::string::npos);
}

TEST_CASE("image: of two that make one layout at the same time both are in it") {
  const TempDir dir;
  const std::string first = "oci:" + dir.at("img:first");
  write_image(first, "1", true, [&dir] { write_image("oci:" + dir.at("img:second"), "2"); });
  CHECK(layer_text(first) == "1");
  CHECK(layer_text("oci:" + dir.at("img:second")) == "2");
  CHECK(names_in(dir.at("")) == std::vector<std::string>{"img"});
}

TEST_CASE("image: nothing is left of one that is not finished") {
  const TempDir dir;
  write_image("oci:" + dir.at("d") + ":t", "1", false);
  write_image("oci-archive:" + dir.at("a.tar") + ":t", "1", false);
  CHECK(names_in(dir.path()).empty());
  make_dirs(dir.at("empty"));
  write_image("oci:" + dir.at("empty") + ":t", "1", false);
  CHECK(names_in(dir.at("empty")).empty());
  write_image("oci:" + dir.at("d") + ":t", "1");
  write_image("oci:" + dir.at("d") + ":u", "2", false);
  CHECK(names_in(dir.at("d") + "/blobs/sha256").size() == 3);
}

TEST_CASE("image: a directory that is no layout is not written to") {
  const TempDir dir;
  make_tree(dir / "d", {"precious=1"});
  const auto writer = ImageWriter::create(reference("oci:" + dir.at("d") + ":t"));
  REQUIRE_FALSE(writer);
  CHECK(names_in(dir.at("d")) == std::vector<std::string>{"precious"});
}

TEST_CASE("image: names that cannot be written are refused") {
  const TempDir dir;
  for (const std::string& name :
       {"oci:" + dir.at("d") + ":", "oci:" + dir.at("d") + ":a b", "oci:" + dir.at("d") + ":../x",
        "docker-archive:" + dir.at("d") + ":Upper/Case:1", "docker-archive:" + dir.at("d") + ":"}) {
    CAPTURE(name);
    CHECK_FALSE(ImageWriter::create(reference(name)));
  }
  CHECK(*full_docker_name("x") == "docker.io/library/x:latest");
  CHECK(*full_docker_name("a/x:1") == "docker.io/a/x:1");
  CHECK(*full_docker_name("localhost/x") == "localhost/x:latest");
  CHECK(*full_docker_name("host:5000/x:1") == "host:5000/x:1");
}

TEST_CASE("image: damage and what is missing is told by its digest") {
  const TempDir dir;
  const std::string name = "oci:" + dir.at("d") + ":t";
  write_image(name, "the layer");
  damage_blob(dir.at("d"), "the layer", "the lager");
  CHECK(layer_text(name).find("is damaged") != std::string::npos);
  damage_blob(dir.at("d"), "the lager", "short");
  auto source = ImageSource::open(reference(name));
  REQUIRE(source);
  CHECK_FALSE(source->open_layer(0));
  damage_blob(dir.at("d"), "diff_ids", "{}");
  CHECK(open_error(name).find("is damaged") != std::string::npos);
  damage_blob(dir.at("d"), "schemaVersion", std::string(9 << 20, '['));
  CHECK(open_error(name).find("larger than") != std::string::npos);
}

TEST_CASE("image: a digest that is a path, and a manifest that is an index too, are refused") {
  const TempDir dir;
  const std::string name = "oci:" + dir.at("d") + ":t";
  write_image(name, "x");
  const auto with_manifest = [&](const json& manifest) {
    const std::string text = manifest.dump();
    write_file(dir.at("d") + "/blobs/sha256/" + std::string(Digest::of(text).hex()), text);
    json index = json::parse(read_file(dir.at("d") + "/index.json"));
    index["manifests"][0]["digest"] = Digest::of(text).text();
    write_file(dir.at("d") + "/index.json", index.dump());
    return open_error(name);
  };
  const json descriptor = {{"digest", "sha256:../../../../etc/passwd"}, {"size", 1}};
  CHECK(
      with_manifest({{"config", descriptor}, {"layers", json::array()}}).find("no sha256 digest") !=
      std::string::npos);
  CHECK(with_manifest({{"config", 1}, {"layers", json::array()}, {"manifests", json::array()}})
            .find("at once") != std::string::npos);
  CHECK(with_manifest({{"layers", 3}}).find("not as the OCI image spec") != std::string::npos);
}

TEST_CASE("image: a layout's symlinks are not followed") {
  const TempDir dir;
  const std::string name = "oci:" + dir.at("d") + ":t";
  write_image(name, "x");
  std::filesystem::rename(dir.at("d") + "/index.json", dir.at("index.json"));
  std::filesystem::create_symlink(dir.at("index.json"), dir.at("d") + "/index.json");
  CHECK(open_error(name).find("index.json") != std::string::npos);
}

TEST_CASE("image: references") {
  CHECK_FALSE(parse_image_reference("layer.tar"));
  CHECK_FALSE(parse_image_reference("dir:x"));
  CHECK(reference("oci:/a/b").name.empty());
  CHECK(reference("oci:/a\\:b:t").path == "/a:b");
  CHECK(reference("docker-archive:f.tar:host:5000/x:1").name == "host:5000/x:1");
  CHECK(reference("oci-archive:f.tar:t").text() == "oci-archive:f.tar:t");
}

TEST_CASE("document: values nested deeper than any program needs are refused, not followed") {
  const auto nested = [](std::size_t depth) {
    return std::string(depth, '[') + std::string(depth, ']');
  };
  CHECK(parse_document(nested(100), "X"));
  const auto deep = parse_document(nested(1'000'000), "X");
  REQUIRE_FALSE(deep);
  CHECK(deep.error().message == "'X' has values nested more than 100 deep");
}
