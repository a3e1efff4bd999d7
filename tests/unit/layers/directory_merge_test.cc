#include "layers/directory_merge.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <catch2/catch.hpp>
#include <map>

#include "tests/testlib/faults.h"
#include "tests/testlib/files.h"
#include "whiteout/marks.h"

using namespace layerfs;
using namespace layerfs::testing;

namespace {

// Directories 0 (topmost), 1, 2, ... of a merge.
struct Dirs {
  TempDir base;
  std::vector<LayerRole> roles;
  std::vector<UniqueFd> fds;
  std::vector<MergeInput> inputs;

  explicit Dirs(std::vector<LayerRole> of) : roles(std::move(of)) {
    for (std::size_t i = 0; i < roles.size(); ++i) {
      make_dirs(path(i));
      fds.emplace_back(::open(path(i).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
      inputs.push_back({static_cast<LayerIndex>(i), roles[i], false, fds[i].get()});
    }
  }
  std::string path(std::size_t i, const std::string& name = "") const {
    return base.at(std::to_string(i)) + "/" + name;
  }
  void file(std::size_t i, const char* name) const { write_file(path(i, name), ""); }
  void dir(std::size_t i, const char* name) const { make_dirs(path(i, name)); }
  void device_whiteout(std::size_t i, const char* name) const {
    REQUIRE(::mknod(path(i, name).c_str(), S_IFCHR, makedev(0, 0)) == 0);
  }
  MergedDirectory merge() const {
    auto merged = merge_directory(inputs);
    REQUIRE(merged);
    return std::move(*merged);
  }
};

// Name -> layer, of what is shown.
std::map<std::string, int> shown(const MergedDirectory& merged) {
  std::map<std::string, int> out;
  merged.visible.for_each_after(0, [&](const DirectoryListing::Entry& entry) {
    out[std::string(entry.name)] = entry.layer;
    return true;
  });
  return out;
}
using Shown = std::map<std::string, int>;

bool exists_below(const MergedDirectory& merged, const char* name) {
  const auto* entry = merged.visible.find(name);
  REQUIRE(entry != nullptr);
  return (entry->flags & kExistsBelow) != 0;
}

constexpr LayerRole kUpper = LayerRole::Upper;
constexpr LayerRole kInit = LayerRole::Init;
constexpr LayerRole kLower = LayerRole::Lower;

}  // namespace

TEST_CASE("merge: a name is the topmost layer's, with its type, and says if it exists below",
          "[S-01]") {
  const Dirs dirs({kUpper, kLower, kLower});
  dirs.file(0, "top");
  dirs.file(0, "both");
  dirs.dir(1, "both");
  dirs.file(1, "middle");
  dirs.dir(2, "bottom");
  dirs.file(2, "middle");
  const MergedDirectory merged = dirs.merge();
  CHECK(shown(merged) == Shown{{"top", 0}, {"both", 0}, {"middle", 1}, {"bottom", 2}});
  CHECK(merged.visible.find("both")->type == DT_REG);
  CHECK(merged.visible.find("bottom")->type == DT_DIR);
  CHECK_FALSE(exists_below(merged, "top"));
  CHECK(exists_below(merged, "both"));
  CHECK(exists_below(merged, "middle"));
  CHECK_FALSE(exists_below(merged, "bottom"));
}

TEST_CASE("merge: every type of object is listed as what it is") {
  const Dirs dirs({kUpper});
  dirs.file(0, "f");
  dirs.dir(0, "d");
  REQUIRE(::symlink("f", dirs.path(0, "s").c_str()) == 0);
  REQUIRE(::mkfifo(dirs.path(0, "p").c_str(), 0600) == 0);
  REQUIRE(::mknod(dirs.path(0, "k").c_str(), S_IFSOCK | 0600, 0) == 0);
  const MergedDirectory merged = dirs.merge();
  CHECK(merged.visible.find("f")->type == DT_REG);
  CHECK(merged.visible.find("d")->type == DT_DIR);
  CHECK(merged.visible.find("s")->type == DT_LNK);
  CHECK(merged.visible.find("p")->type == DT_FIFO);
  CHECK(merged.visible.find("k")->type == DT_SOCK);
}

TEST_CASE("merge: a whiteout of any form hides the name in all layers below its own", "[S-01]") {
  const std::size_t layer = GENERATE(0U, 1U);
  CAPTURE(layer);
  Dirs dirs({kUpper, kLower, kLower, kLower});
  for (const std::size_t below : {layer + 1, layer + 2}) {
    dirs.file(below, "gone");
    dirs.file(below, "kept");
  }
  SECTION("device") { dirs.device_whiteout(layer, "gone"); }
  SECTION("marker") { dirs.file(layer, ".wh.gone"); }
  SECTION("attribute") {
    dirs.inputs[layer].xattr_whiteouts = true;
    dirs.file(layer, "gone");
    REQUIRE(::setxattr(dirs.path(layer, "gone").c_str(), "user.overlay.whiteout", "", 0, 0) == 0);
  }
  const MergedDirectory merged = dirs.merge();
  CHECK(shown(merged) == Shown{{"kept", static_cast<int>(layer) + 1}});
  CHECK(merged.upper_whiteouts.contains("gone") == (layer == 0));
}

TEST_CASE("merge: a whiteout hides nothing above it nor beside it", "[S-01]") {
  const Dirs dirs({kUpper, kLower, kLower});
  dirs.file(0, "above");
  dirs.file(1, ".wh.above");
  dirs.file(2, "above");
  dirs.file(1, "beside");
  dirs.file(1, ".wh.beside");
  dirs.file(2, "beside");
  const MergedDirectory merged = dirs.merge();
  CHECK(shown(merged) == Shown{{"above", 0}, {"beside", 1}});
  CHECK_FALSE(exists_below(merged, "above"));
  CHECK_FALSE(exists_below(merged, "beside"));
}

TEST_CASE(
    "merge: an attribute is a whiteout only on empty regular files of directories that say so") {
  Dirs dirs({kLower, kLower});
  for (const char* name : {"empty", "full"}) {
    dirs.file(1, name);
    write_file(dirs.path(0, name), name == std::string("full") ? "x" : "");
    REQUIRE(::setxattr(dirs.path(0, name).c_str(), "user.overlay.whiteout", "", 0, 0) == 0);
  }
  CHECK(shown(dirs.merge()) == Shown{{"empty", 0}, {"full", 0}});
  dirs.inputs[0].xattr_whiteouts = true;
  CHECK(shown(dirs.merge()) == Shown{{"full", 0}});
}

TEST_CASE("merge: aufs' own names and the opaque marker are shown by no layer and hide nothing") {
  const Dirs dirs({kUpper, kLower});
  dirs.file(0, ".wh..wh..opq");
  dirs.file(0, ".wh..wh.aufs");
  dirs.dir(0, ".wh..wh.plnk");
  dirs.file(1, ".wh.aufs");
  dirs.file(1, ".opq");
  const MergedDirectory merged = dirs.merge();
  CHECK(shown(merged) == Shown{{".opq", 1}});
  CHECK(merged.upper_whiteouts.empty());
}

TEST_CASE("merge: a directory merges down to the first non-directory of its name only", "[S-02]") {
  const Dirs dirs({kUpper, kLower, kLower, kLower});
  dirs.dir(1, "d");
  dirs.file(2, "d");
  dirs.dir(3, "d");
  const MergedDirectory merged = dirs.merge();
  CHECK(shown(merged) == Shown{{"d", 1}});
  CHECK(exists_below(merged, "d"));
}

TEST_CASE(
    "merge: whiteouts of the upper and the init layer are told apart, those of lowers not kept") {
  const Dirs dirs({kUpper, kInit, kLower, kLower});
  dirs.file(0, ".wh.u");
  dirs.device_whiteout(1, "i");
  dirs.file(2, ".wh.l");
  const MergedDirectory merged = dirs.merge();
  CHECK(merged.upper_whiteouts == std::unordered_set<std::string>{"u"});
  CHECK(merged.init_whiteouts == std::unordered_set<std::string>{"i"});
}

TEST_CASE("merge: a character device other than 0:0 is shown") {
  if (::geteuid() != 0) {
    return;
  }
  const Dirs dirs({kUpper});
  REQUIRE(::mknod(dirs.path(0, "c").c_str(), S_IFCHR | 0600, makedev(0, 1)) == 0);
  CHECK(shown(dirs.merge()) == Shown{{"c", 0}});
}

TEST_CASE("merge: names are bytes, of up to 255 of them") {
  const Dirs dirs({kUpper, kLower});
  const std::string long_name(255, 'n');
  const std::string odd = "\xff\xfe\n\t \x01";
  write_file(dirs.path(1, long_name), "");
  write_file(dirs.path(0, odd), "");
  CHECK(shown(dirs.merge()) == Shown{{odd, 0}, {long_name, 1}});
}

TEST_CASE("merge: a failure to read any layer is a failure of the whole", "[S-03]") {
  Dirs dirs({kUpper, kLower});
  dirs.inputs[1].xattr_whiteouts = true;
  dirs.device_whiteout(0, "a");
  dirs.file(0, ".wh.b");
  for (const char* name : {"a", "b", "c"}) {
    dirs.file(1, name);
  }
  const int error = GENERATE(EIO, EACCES, ESTALE, ENOENT, ENOTDIR);
  for (const Call call : {Call::Open, Call::Statx, Call::GetXattr, Call::ReadDirectory}) {
    CAPTURE(to_string(call), error);
    const std::size_t failed = fail_each(
        call, error, [&] { return merge_directory(dirs.inputs); },
        [&](const auto& merged) { REQUIRE_FALSE(merged.ok()); });
    CHECK(failed >= 2);
  }
}
