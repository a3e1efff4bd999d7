// Hard links of lower files through copy-up, by what is in the index afterwards.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "fs/layer_setup.h"
#include "tests/testlib/layer_dirs.h"
#include "tests/testlib/skip.h"

using namespace layerfs;
using namespace layerfs::testing;

namespace {

struct Fixture {
  LayerDirs dirs;
  OpenedLayers layers;
  MountConfig config = dirs.config();

  void link(const char* from, const char* to) const {
    REQUIRE(::link((dirs.lower() + "/" + from).c_str(), (dirs.lower() + "/" + to).c_str()) == 0);
  }
  FileSystem& start() {
    layers = OpenedLayers();
    auto opened = open_layers(config);
    REQUIRE(opened);
    layers = std::move(*opened);
    return *layers.fs;
  }
  // An index needs a filesystem with an id and with attributes.
  bool has_index() const {
    return layers.fs->stack().at(0).fsid != 0 && layers.xattrs != XattrNamespace::None;
  }
  NodeEntry lookup(const char* name) const {
    const auto entry = layers.fs->lookup(kRootId, name);
    REQUIRE(entry);
    return *entry;
  }
  std::string content(const char* name) const {
    const auto fd = layers.fs->data(lookup(name).id, FileSystem::Access::Read);
    REQUIRE(fd);
    char bytes[64] = {};
    const ssize_t n = ::pread((*fd)->get(), bytes, sizeof bytes, 0);
    REQUIRE(n >= 0);
    return {bytes, static_cast<std::size_t>(n)};
  }
  void write(const char* name, std::string_view bytes) const {
    REQUIRE(layers.fs->write(lookup(name).id, bytes, 0, FileSystem::WriteFrom::Caller));
  }
  void chmod(const char* name, mode_t mode) const {
    AttributeChange change;
    change.mode = mode;
    REQUIRE(layers.fs->set_attributes(lookup(name).id, change));
  }
  void unlink(const char* name) const {
    REQUIRE(layers.fs->remove(kRootId, name, sys::UnlinkKind::File));
  }
  std::vector<std::string> index() const { return names_in(dirs.work() + "/layerfs.index"); }
};

}  // namespace

TEST_CASE("links: the first change puts one inode into the index, which every name shows") {
  Fixture f;
  write_file(f.dirs.lower() + "/a", "old!");
  f.link("a", "b");
  f.link("a", "c");
  f.start();
  if (!f.has_index()) {
    SKIP_TEST("no index on this filesystem");
  }
  CHECK(f.index().empty());
  f.write("b", "new!");
  CHECK(f.index().size() == 1);
  for (int pass = 0; pass < 2; ++pass) {
    for (const char* name : {"a", "b", "c"}) {
      CAPTURE(pass, name);
      CHECK(f.content(name) == "new!");
      CHECK(f.lookup(name).attr.st_nlink == 3);
      CHECK(f.lookup(name).id == f.lookup("a").id);
    }
    f.start();
  }
  // Only the name that was changed is in the upper.
  CHECK(names_in(f.dirs.upper()) == std::vector<std::string>{"b"});
  CHECK(read_file(f.dirs.lower() + "/a") == "old!");
}

TEST_CASE("links: the index entry goes with the last name, and not before") {
  Fixture f;
  write_file(f.dirs.lower() + "/a", "old!");
  f.link("a", "b");
  f.start();
  if (!f.has_index()) {
    SKIP_TEST("no index on this filesystem");
  }
  f.chmod("a", 0600);
  REQUIRE(f.index().size() == 1);
  SECTION("the name in the upper first") {
    f.unlink("a");
    CHECK(f.index().size() == 1);
    f.start();
    CHECK(f.lookup("b").attr.st_nlink == 1);
    CHECK((f.lookup("b").attr.st_mode & 07777) == 0600);
    f.unlink("b");
  }
  SECTION("the name only the lower has first") {
    f.unlink("b");
    CHECK(f.index().size() == 1);
    f.start();
    CHECK(f.lookup("a").attr.st_nlink == 1);
    CHECK((f.lookup("a").attr.st_mode & 07777) == 0600);
    f.unlink("a");
  }
  CHECK(f.index().empty());
  CHECK_FALSE(f.layers.fs->lookup(kRootId, "a").ok());
  CHECK_FALSE(f.layers.fs->lookup(kRootId, "b").ok());
}

TEST_CASE("links: deleting one of several lower names is remembered by the others' count") {
  Fixture f;
  write_file(f.dirs.lower() + "/a", "old!");
  f.link("a", "b");
  f.link("a", "c");
  f.start();
  if (!f.has_index()) {
    SKIP_TEST("no index on this filesystem");
  }
  f.unlink("c");
  for (int pass = 0; pass < 2; ++pass) {
    CAPTURE(pass);
    CHECK(f.lookup("a").attr.st_nlink == 2);
    CHECK(f.lookup("b").attr.st_nlink == 2);
    CHECK(f.content("a") == "old!");
    f.start();
  }
}

TEST_CASE("links: a metadata-only copy in the index finds its data below under any name") {
  Fixture f;
  make_dirs(f.dirs.lower() + "/d");
  write_file(f.dirs.lower() + "/a", "old!");
  f.link("a", "b");
  f.start();
  if (!f.has_index()) {
    SKIP_TEST("no index on this filesystem");
  }
  f.chmod("b", 0600);
  f.start();
  CHECK(f.content("a") == "old!");
  CHECK(f.layers.fs->copied_up().bytes == 0);
  f.unlink("b");
  f.start();
  CHECK(f.content("a") == "old!");
  f.write("a", "new!");
  CHECK(f.content("a") == "new!");
}

TEST_CASE("links: with the index off each name is a file of its own from the first change on") {
  Fixture f;
  f.config.index = false;
  write_file(f.dirs.lower() + "/a", "old!");
  f.link("a", "b");
  f.start();
  f.write("a", "new!");
  CHECK(f.content("a") == "new!");
  CHECK(f.content("b") == "old!");
  CHECK(f.index().empty());
}
