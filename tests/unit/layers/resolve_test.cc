#include "layers/resolve.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <catch2/catch.hpp>

#include "tests/testlib/faults.h"
#include "tests/testlib/layer_dirs.h"

using namespace layerfs;
using namespace layerfs::testing;

namespace {

// Lowers 0 (topmost) to 3 without an upper, so that a layer's index is its number.
struct Layers {
  LayerDirs dirs{4};
  LayerStack stack = open();
  std::vector<DirSource> roots;

  LayerStack open() const {
    StackOptions options;
    for (std::size_t i = 0; i < 4; ++i) {
      options.lowers.push_back(dirs.lower(i));
    }
    options.mountpoint = dirs.mountpoint();
    auto opened = LayerStack::open(options);
    REQUIRE(opened);
    return std::move(*opened);
  }
  Layers() {
    for (LayerIndex i = 0; i < 4; ++i) {
      roots.push_back({i, false, LayerPath()});
    }
  }
  std::string at(std::size_t layer, const std::string& path) const {
    return dirs.lower(layer) + "/" + path;
  }
  void dir(std::size_t layer, const std::string& path) const { make_dirs(at(layer, path)); }
  void file(std::size_t layer, const std::string& path) const { write_file(at(layer, path), ""); }
  void mark(std::size_t layer, const std::string& path, const char* suffix,
            const std::string& value) const {
    const std::string name = std::string("user.overlay.") + suffix;
    REQUIRE(::setxattr(at(layer, path).c_str(), name.c_str(), value.data(), value.size(), 0) == 0);
  }

  // "layer:path" of each source.
  std::vector<std::string> sources(const char* name, LayerIndex first = 0) const {
    const auto found = resolve_directory(stack, roots, name, first, true);
    REQUIRE(found);
    std::vector<std::string> out;
    for (const DirSource& source : *found) {
      out.push_back(std::to_string(source.layer) + ":" + source.path.text());
    }
    return out;
  }
};
using Sources = std::vector<std::string>;

}  // namespace

TEST_CASE("resolve: a directory's sources are those of its name in all layers, topmost first",
          "[S-02]") {
  const Layers layers;
  layers.dir(0, "d");
  layers.dir(2, "d");
  layers.dir(3, "d");
  CHECK(layers.sources("d") == Sources{"0:d", "2:d", "3:d"});
  CHECK(layers.sources("d", 1) == Sources{"2:d", "3:d"});
  CHECK(layers.sources("none").empty());
}

TEST_CASE("resolve: the search ends at an opaque directory, a whiteout and a non-directory",
          "[S-02]") {
  const Layers layers;
  layers.dir(0, "d");
  layers.dir(3, "d");
  Sources expected = {"0:d"};
  SECTION("opaque") {
    layers.dir(1, "d");
    layers.mark(1, "d", "opaque", "y");
    expected = {"0:d", "1:d"};
  }
  SECTION("opaque marker file") {
    layers.dir(1, "d");
    layers.file(1, "d/.wh..wh..opq");
    expected = {"0:d", "1:d"};
  }
  SECTION("whiteout device") {
    REQUIRE(::mknod(layers.at(1, "d").c_str(), S_IFCHR, makedev(0, 0)) == 0);
  }
  SECTION("whiteout marker") { layers.file(1, ".wh.d"); }
  SECTION("file") { layers.file(1, "d"); }
  SECTION("symlink to a directory") {
    layers.dir(1, "other");
    REQUIRE(::symlink("other", layers.at(1, "d").c_str()) == 0);
  }
  SECTION("directory beside its whiteout") {
    layers.dir(1, "d");
    layers.file(1, ".wh.d");
    expected = {"0:d", "1:d"};
  }
  CHECK(layers.sources("d") == expected);
}

TEST_CASE("resolve: an attribute x says that empty files of the source may be whiteouts") {
  const Layers layers;
  layers.dir(0, "d");
  layers.dir(1, "d");
  layers.mark(1, "d", "opaque", "x");
  const auto found = resolve_directory(layers.stack, layers.roots, "d", 0, true);
  REQUIRE(found);
  REQUIRE(found->size() == 2);
  CHECK_FALSE((*found)[0].xattr_whiteouts);
  CHECK((*found)[1].xattr_whiteouts);
}

TEST_CASE("resolve: an absolute redirect leads to that path in the layers below") {
  const Layers layers;
  layers.dir(1, "new");
  layers.mark(1, "new", "redirect", "/a/old");
  layers.dir(2, "a/old");
  layers.dir(3, "a/old");
  layers.dir(3, "new");  // of that name, but no part of it
  CHECK(layers.sources("new") == Sources{"1:new", "2:a/old", "3:a/old"});
}

TEST_CASE("resolve: a relative redirect leads to that name in the same directory") {
  const Layers layers;
  layers.dir(1, "new");
  layers.mark(1, "new", "redirect", "old");
  layers.dir(2, "old");
  layers.dir(2, "new");
  CHECK(layers.sources("new") == Sources{"1:new", "2:old"});
}

TEST_CASE("resolve: a redirect in the layer that another led to is followed from there") {
  const Layers layers;
  layers.dir(0, "c");
  layers.mark(0, "c", "redirect", "/b");
  layers.dir(1, "b");
  layers.mark(1, "b", "redirect", "/x/a");
  layers.dir(3, "x/a");
  CHECK(layers.sources("c") == Sources{"0:c", "1:b", "3:x/a"});
}

TEST_CASE("resolve: a redirect of a directory on the way changes the way below it") {
  const Layers layers;
  layers.dir(0, "new");
  layers.mark(0, "new", "redirect", "/p/d");
  layers.dir(1, "p/d");
  layers.mark(1, "p", "redirect", "/q");
  layers.dir(2, "q/d");
  layers.dir(2, "p/d");
  CHECK(layers.sources("new") == Sources{"0:new", "1:p/d", "2:q/d"});
}

TEST_CASE("resolve: redirects in a circle end with the layers") {
  const Layers layers;
  for (std::size_t i = 0; i < 4; ++i) {
    layers.dir(i, "a");
    layers.dir(i, "b");
    layers.mark(i, "a", "redirect", "/b");
    layers.mark(i, "b", "redirect", "/a");
  }
  CHECK(layers.sources("a") == Sources{"0:a", "1:b", "2:a", "3:b"});
}

TEST_CASE("resolve: a whiteout on the way of a redirect ends the search") {
  const Layers layers;
  layers.dir(0, "new");
  layers.mark(0, "new", "redirect", "/a/old");
  layers.dir(3, "a/old");
  SECTION("of the last component") {
    layers.dir(1, "a");
    layers.file(1, "a/.wh.old");
  }
  SECTION("of a directory on the way") { layers.file(1, ".wh.a"); }
  SECTION("an opaque directory on the way") {
    layers.dir(1, "a");
    layers.mark(1, "a", "opaque", "y");
  }
  SECTION("a file on the way") { layers.file(1, "a"); }
  CHECK(layers.sources("new") == Sources{"0:new"});
}

TEST_CASE("resolve: a redirect whose value is no proper path is EIO, and leads nowhere") {
  const Layers layers;
  const std::string value =
      GENERATE(as<std::string>{}, "", "/", "../x", "..", ".", "/../x", "/a/../b", "/a/./b", "a/b",
               "//a", "/a/", "/a//b", std::string("/a\0b", 4), "/" + std::string(256, 'n'));
  CAPTURE(value);
  layers.dir(0, "d");
  layers.mark(0, "d", "redirect", value);
  layers.dir(1, "d");
  const auto found = resolve_directory(layers.stack, layers.roots, "d", 0, true);
  REQUIRE_FALSE(found);
  CHECK(found.error() == Errno(EIO));
}

TEST_CASE("resolve: no symlink is followed on the way of a redirect, within or out of the layer") {
  const Layers layers;
  layers.dir(0, "new");
  layers.mark(0, "new", "redirect", "/a/old");
  layers.dir(1, "real/old");
  make_dirs(layers.dirs.base() + "/outside/old");
  const std::string target = GENERATE(as<std::string>{}, "real", "../outside", "absolute");
  const std::string outside = layers.dirs.base() + "/outside";
  REQUIRE(::symlink((target == "absolute" ? outside : target).c_str(), layers.at(1, "a").c_str()) ==
          0);
  CHECK(layers.sources("new") == Sources{"0:new"});
}

TEST_CASE("resolve: a source below a symlinked directory cannot be opened") {
  const Layers layers;
  layers.dir(0, "real/d");
  REQUIRE(::symlink("real", layers.at(0, "link").c_str()) == 0);
  const LayerPath path = LayerPath().child("link").child("d");
  const auto fd = open_source(layers.stack, {0, false, path});
  REQUIRE_FALSE(fd);
  CHECK(fd.error() == Errno(ELOOP));
}

TEST_CASE("resolve: a failure to read is a failure, never a shorter list of sources", "[S-03]") {
  const Layers layers;
  layers.dir(0, "d");
  layers.mark(0, "d", "redirect", "/e");
  layers.dir(2, "e");
  layers.dir(3, "e");
  const std::size_t all = layers.sources("d").size();
  REQUIRE(all == 3);
  const int error = GENERATE(EIO, EACCES, ESTALE);
  for (const Call call : {Call::Open, Call::Statx, Call::ListXattr, Call::GetXattr}) {
    CAPTURE(to_string(call), error);
    const std::size_t failed = fail_each(
        call, error, [&] { return resolve_directory(layers.stack, layers.roots, "d", 0, true); },
        [&](const auto& found) {
          REQUIRE_FALSE(found.ok());
          CHECK(found.error() == Errno(error));
        });
    CHECK(failed > 0);
  }
}
