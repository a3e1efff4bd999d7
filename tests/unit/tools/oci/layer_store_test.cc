#include "tools/oci/layer_store.h"

#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <thread>

#include "tests/testlib/tar_text.h"
#include "tests/testlib/tree_maker.h"

using namespace layerfs;
using namespace layerfs::oci;
using namespace layerfs::testing;
using Access = LayerStore::Access;

namespace {

class StringSource : public ByteSource {
 public:
  explicit StringSource(std::string text) : text_(std::move(text)) {}
  Fallible<std::size_t> read(char* data, std::size_t size) override {
    const std::size_t have = text_.copy(data, size, at_);
    at_ += have;
    return have;
  }

 private:
  std::string text_;
  std::size_t at_ = 0;
};

Fallible<void> no_poll() { return {}; }

LayerRequest request(const std::string& tar, std::atomic<int>* opened = nullptr,
                     bool knows_digest = true) {
  return {"LAYER", knows_digest ? std::optional(Digest::of(tar)) : std::nullopt,
          [tar, opened]() -> Fallible<std::unique_ptr<ByteSource>> {
            if (opened != nullptr) {
              ++*opened;
            }
            return std::unique_ptr<ByteSource>(std::make_unique<StringSource>(tar));
          }};
}

StoreUnpackOptions options() {
  StoreUnpackOptions out;
  out.marks.form = WhiteoutForm::DotWh;
  out.limits = {1 << 20, 1000};
  out.threads = 3;
  out.sync = false;
  out.progress = [](std::uint64_t) { return Fallible<void>(); };
  return out;
}

Fallible<std::vector<StoredLayer>> provide(const std::string& path,
                                           const std::vector<LayerRequest>& requests) {
  auto store = LayerStore::open(path, Access::Add, no_poll);
  if (!store) {
    return store.error();
  }
  return store->provide(requests, options());
}

}  // namespace

TEST_CASE("store: a layer is unpacked once, whoever asks and however it comes") {
  const TempDir dir;
  std::atomic<int> opened{0};
  const std::string one = tar_text({"a=1"});
  const std::string two = tar_text({"b=2"});
  const auto first = provide(dir / "s", {request(one, &opened), request(two, &opened)});
  REQUIRE(first);
  CHECK(read_file((*first)[0].path + "/a") == "1");
  CHECK(read_file((*first)[1].path + "/b") == "2");
  const auto again = provide(dir / "s", {request(two, &opened), request(one, &opened)});
  REQUIRE(again);
  CHECK(opened == 2);
  CHECK((*again)[0].path == (*first)[1].path);
  CHECK((*again)[0].was_there);
  const auto unknown = provide(dir / "s", {request(one, &opened, false)});
  REQUIRE(unknown);
  CHECK((*unknown)[0].path == (*first)[0].path);
  CHECK(names_in(dir / "s/layers").size() == 2);
}

TEST_CASE("store: a layer that fails leaves nothing, those that were complete stay") {
  const TempDir dir;
  const std::string good = tar_text({"a=1"});
  const auto done = provide(dir / "s", {request(good), request(tar_text({"../x=1"}))});
  REQUIRE_FALSE(done);
  CHECK(done.error().message.find("'../x'") != std::string::npos);
  CHECK(names_in(dir / "s/layers").size() <= 1);
  for (const std::string& name : names_in(dir / "s/tmp")) {
    CHECK(name.starts_with("lock-"));
  }
}

TEST_CASE("store: processes at work on the same layers wait for each other") {
  const TempDir dir;
  std::atomic<int> opened{0};
  std::vector<LayerRequest> requests;
  for (int i = 0; i < 10; ++i) {
    requests.push_back(request(tar_text({"f" + std::to_string(i) + "=1"}), &opened));
  }
  std::atomic<int> failed{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] { failed += provide(dir / "s", requests) ? 0 : 1; });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  CHECK(failed == 0);
  CHECK(opened == 10);
}

TEST_CASE("store: several that make one at the same time all have it") {
  std::atomic<int> failed{0};
  for (int round = 0; round < 300; ++round) {
    const TempDir dir;
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back(
          [&] { failed += LayerStore::open(dir / "s", Access::Add, no_poll) ? 0 : 1; });
    }
    for (std::thread& thread : threads) {
      thread.join();
    }
  }
  CHECK(failed == 0);
}

TEST_CASE("store: who removes waits for who adds") {
  const TempDir dir;
  auto adding = LayerStore::open(dir / "s", Access::Add, no_poll);
  REQUIRE(adding);
  int polls = 0;
  const auto removing = LayerStore::open(dir / "s", Access::Remove, [&]() -> Fallible<void> {
    return ++polls > 2 ? Fallible<void>(Failure{"tired"}) : Fallible<void>();
  });
  REQUIRE_FALSE(removing);
  CHECK(removing.error().message == "tired");
}

TEST_CASE("store: a directory without an entry is what it is below") {
  const TempDir dir;
  TarEntry private_dir;
  private_dir.type = TarType::Directory;
  private_dir.path = "etc";
  private_dir.mode = 0700;
  private_dir.mtime = {77, 0};
  const std::string below = encode_tar_header(private_dir) + std::string(1024, '\0');
  const std::string above = tar_text({"etc/f=1"});
  const auto layers = provide(dir / "s", {request(below), request(above)});
  INFO((layers ? "" : layers.error().message));
  REQUIRE(layers);
  CHECK((stat_of((*layers)[1].path + "/etc").st_mode & 07777) == 0700);
  CHECK(stat_of((*layers)[1].path + "/etc").st_mtime == 77);
  // On something else it is another, and without anything below yet another.
  const auto alone = provide(dir / "s", {request(above)});
  REQUIRE(alone);
  CHECK((*alone)[0].path != (*layers)[1].path);
  CHECK((stat_of((*alone)[0].path + "/etc").st_mode & 07777) == 0755);
  const auto again = provide(dir / "s", {request(below), request(above)});
  REQUIRE(again);
  const auto other = provide(dir / "s", {request(tar_text({"x=1"})), request(above)});
  REQUIRE(other);
  CHECK_FALSE((*other)[1].was_there);
  CHECK(((*again)[1].path == (*layers)[1].path && (*again)[1].was_there));
}

TEST_CASE("store: images name layers, and removed layers are gone") {
  const TempDir dir;
  const auto layers = provide(dir / "s", {request(tar_text({"d/", "d/a=1"}))});
  REQUIRE(layers);
  auto store = LayerStore::open(dir / "s", Access::Remove, no_poll);
  REQUIRE(store);
  REQUIRE(store->set_image({"one", {(*layers)[0].key}}));
  REQUIRE(store->set_image({"two", {(*layers)[0].key}}));
  REQUIRE(store->set_image({"one", {}}));
  const auto images = store->images();
  REQUIRE(images);
  REQUIRE(images->size() == 2);
  CHECK((*images)[0].layers.empty());
  CHECK((*images)[1].layers == std::vector<std::string>{(*layers)[0].key});
  CHECK(*store->remove_image("one"));
  CHECK_FALSE(*store->remove_image("one"));
  REQUIRE(store->remove_layer((*layers)[0].key));
  CHECK(store->layers()->empty());
  REQUIRE(store->clean_temporary());
  CHECK(names_in(dir / "s/tmp").empty());
}

TEST_CASE("store: another directory is neither taken nor changed") {
  const TempDir dir;
  make_tree(dir / "d", {"mine=1"});
  CHECK_FALSE(LayerStore::open(dir / "d", Access::Add, no_poll));
  CHECK_FALSE(LayerStore::open(dir / "d", Access::Read, no_poll));
  CHECK_FALSE(LayerStore::open(dir / "none", Access::Read, no_poll));
  CHECK(names_in(dir / "d") == std::vector<std::string>{"mine"});
  CHECK(names_in(dir.path()) == std::vector<std::string>{"d"});
}
