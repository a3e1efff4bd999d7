#include "layers/change_walk.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <catch2/catch.hpp>
#include <filesystem>

#include "layers/path_text.h"
#include "tests/testlib/tree_maker.h"

using namespace layerfs;
using namespace layerfs::testing;
using Lines = std::vector<std::string>;

namespace {

std::string line_of(const Change& change) {
  std::string out = change.kind == ChangeKind::Added      ? "A "
                    : change.kind == ChangeKind::Modified ? "C "
                                                          : "D ";
  out += change.path;
  for (const auto& [differs, name] :
       {std::pair{change.parts.type, " type"}, std::pair{change.parts.content, " content"},
        std::pair{change.parts.mode, " mode"}, std::pair{change.parts.owner, " owner"},
        std::pair{change.parts.xattrs, " xattr"}, std::pair{change.parts.time, " time"},
        std::pair{change.replaces_directory, " replaces"},
        std::pair{change.relinked, " relinked"}}) {
    out += differs ? name : "";
  }
  return out;
}

LayerStack stack_of(const std::vector<std::string>& layers) {
  StackOptions options;
  options.lowers = layers;
  auto stack = LayerStack::open(options);
  REQUIRE(stack);
  return std::move(*stack);
}

Lines walk(const MergedView& before, const MergedView& now, const ChangeOptions& options) {
  Lines lines;
  const auto walked = walk_changes(before, now, options, [&](const Change& change) {
    lines.push_back(line_of(change));
    return Result<void, Failure>();
  });
  if (!walked) {
    lines.push_back("error: " + walked.error().message);
  }
  return lines;
}

// Changes of the topmost layer over the others.
Lines changes(const std::vector<std::string>& layers, ChangeOptions options = {}, int index = -1) {
  options.exact_content = true;
  const LayerStack stack = stack_of(layers);
  const auto now = MergedView::open(stack, {0, index});
  const auto before = MergedView::open(stack, {1, -1});
  REQUIRE((now && before));
  return walk(*before, *now, options);
}

ChangeOptions opaque() {
  ChangeOptions options;
  options.opaque = true;
  options.deletions_first = true;
  options.links = ChangeOptions::Links::Whole;
  return options;
}

}  // namespace

TEST_CASE("added, changed and deleted, with the directories above") {
  const TempDir dir;
  make_tree(dir / "l", {"d/a=1", "d/b=2", "d/same=3", "other/x=1"});
  make_tree(dir / "u", {"d/new=n", "d/b=22", "d/.wh.a=", "d/same=3"});
  CHECK(changes({dir / "u", dir / "l"}) == Lines{"C d", "D d/a", "C d/b content", "A d/new"});
}

TEST_CASE("what was touched and is equal below is no change, unless asked for") {
  const TempDir dir;
  make_tree(dir / "l", {"d/a=same", "d/s->t"});
  make_tree(dir / "u", {"d/a=same", "d/s->t"});
  CHECK(changes({dir / "u", dir / "l"}) == Lines{});
  ChangeOptions options;
  options.unchanged = true;
  CHECK(changes({dir / "u", dir / "l"}, options) == Lines{"C d", "C d/a", "C d/s"});
}

TEST_CASE("each part that differs is told, also content under an equal size and time") {
  const TempDir dir;
  make_tree(dir / "l", {"content=abc", "mode=x", "mode@0644", "time=x", "link->a", "sub=1.0",
                        "sub~1000000000.25", "dir/", "dir@0755"});
  make_tree(dir / "u", {"content=abd", "mode=x", "mode@0600", "time=x", "time~5", "link->b",
                        "sub=1.0", "dir/", "dir@0700"});
  CHECK(changes({dir / "u", dir / "l"}) ==
        Lines{"C content content", "C dir mode", "C link content", "C mode mode", "C time time"});
}

TEST_CASE("an extended attribute that differs is a change, a mark is not") {
  if (!has_user_xattrs()) {
    WARN("SKIP: no user attributes in the temporary directory");
    return;
  }
  const TempDir dir;
  make_tree(dir / "l", {"a=1", "b=1", "b#user.k=1"});
  make_tree(dir / "u", {"a=1", "a#user.overlay.origin=x", "b=1", "b#user.k=2"});
  CHECK(changes({dir / "u", dir / "l"}) == Lines{"C b xattr"});
}

TEST_CASE("a whiteout of what no lower has is no change") {
  const TempDir dir;
  make_tree(dir / "l", {"d/a=1"});
  make_tree(dir / "u", {"d/.wh.never=", ".wh.nor="});
  CHECK(changes({dir / "u", dir / "l"}) == Lines{});
}

TEST_CASE("an opaque directory is compared, or reported as replacing") {
  const TempDir dir;
  make_tree(dir / "l", {"d/a=1", "d/b=2", "d/sub/x=1"});
  make_tree(dir / "u", {"d/.wh..wh..opq=", "d/a=1", "d/c=3"});
  CHECK(changes({dir / "u", dir / "l"}) == Lines{"C d", "D d/b", "A d/c", "D d/sub"});
  CHECK(changes({dir / "u", dir / "l"}, opaque()) == Lines{"C d replaces", "A d/a", "A d/c"});
}

TEST_CASE("a deleted directory is one deletion") {
  const TempDir dir;
  make_tree(dir / "l", {"d/sub/a=1", "d/b=2"});
  make_tree(dir / "u", {".wh.d="});
  CHECK(changes({dir / "u", dir / "l"}) == Lines{"D d"});
}

TEST_CASE("a change of kind is a change, with all that is in a new directory") {
  const TempDir dir;
  make_tree(dir / "l", {"a=1", "b/x=1"});
  make_tree(dir / "u", {"a/y=1", "b=1"});
  CHECK(changes({dir / "u", dir / "l"}) == Lines{"C a type", "A a/y", "C b type"});
}

TEST_CASE("a redirected directory is deleted under its old name and whole under the new") {
  if (!has_user_xattrs()) {
    WARN("SKIP: no user attributes in the temporary directory");
    return;
  }
  const TempDir dir;
  make_tree(dir / "l", {"old/sub/x=1", "old/y=2", "there/z=3"});
  make_tree(dir / "u",
            {"new/", "new#user.overlay.redirect=/old", ".wh.old=", "new/w=1", "new/.wh.y="});
  CHECK(changes({dir / "u", dir / "l"}) ==
        Lines{"A new", "A new/sub", "A new/sub/x", "A new/w", "D old"});
  SECTION("where a directory was") {
    make_tree(dir / "u", {"there/", "there#user.overlay.redirect=/old/sub"});
    CHECK(changes({dir / "u", dir / "l"}, opaque()) == Lines{"D old", "A new", "A new/sub",
                                                             "A new/sub/x", "A new/w",
                                                             "C there replaces", "A there/x"});
  }
}

TEST_CASE("the content of a metacopy file is that below") {
  if (!has_user_xattrs()) {
    WARN("SKIP: no user attributes in the temporary directory");
    return;
  }
  const TempDir dir;
  make_tree(dir / "l", {"a=data", "a@0644"});
  make_tree(dir / "u", {"a=", "a@0600", "a#user.overlay.metacopy="});
  REQUIRE(::truncate((dir / "u/a").c_str(), 4) == 0);
  make_tree(dir / "u", {"a~1000000000"});
  CHECK(changes({dir / "u", dir / "l"}) == Lines{"C a mode"});
  make_tree(dir / "l", {"a=other", "a@0644"});
  const LayerStack stack = stack_of({dir / "u", dir / "l"});
  const auto view = MergedView::open(stack, {});
  REQUIRE(view);
  ViewDirectory root = view->directory(view->root());
  const auto entry = view->find(root, "a");
  REQUIRE((entry && *entry));
  ViewObject object(*view, root, **entry);
  const auto fd = object.data();
  REQUIRE(fd);
  char text[8] = {};
  CHECK(sys::read_fully(*fd, text, 5, 0).value() == 5);
  CHECK(std::string(text) == "other");
}

TEST_CASE("metacopy without data below is an error, not zeros") {
  if (!has_user_xattrs()) {
    WARN("SKIP: no user attributes in the temporary directory");
    return;
  }
  const TempDir dir;
  make_tree(dir / "l", {"b=data"});
  make_tree(dir / "u", {"a=", "a#user.overlay.metacopy="});
  REQUIRE(::truncate((dir / "u/a").c_str(), 4) == 0);
  const LayerStack stack = stack_of({dir / "u", dir / "l"});
  const auto view = MergedView::open(stack, {});
  REQUIRE(view);
  ViewDirectory root = view->directory(view->root());
  const auto entry = view->find(root, "a");
  REQUIRE((entry && *entry));
  ViewObject object(*view, root, **entry);
  const auto data = object.data();
  REQUIRE_FALSE(data);
  CHECK(cannot_read("a", data.error()).message.find("'/a' is here with its attributes only") == 0);
}

TEST_CASE("names in bytewise order; deletions first where asked for") {
  const TempDir dir;
  make_tree(dir / "l", {"d/m=1", "d/z=1"});
  make_tree(dir / "u", {"d/.wh.m=", "d/.wh.z=", "d/Z=1", "d/a=1", "d/\xc3\xa4=1", "e=1"});
  CHECK(changes({dir / "u", dir / "l"}) ==
        Lines{"C d", "A d/Z", "A d/a", "D d/m", "D d/z", "A d/\xc3\xa4", "A e"});
  ChangeOptions options;
  options.deletions_first = true;
  CHECK(changes({dir / "u", dir / "l"}, options) ==
        Lines{"C d", "D d/m", "D d/z", "A d/Z", "A d/a", "A d/\xc3\xa4", "A e"});
}

TEST_CASE("many names and few are compared alike") {
  const TempDir dir;
  std::vector<std::string> lower;
  std::vector<std::string> upper;
  Lines expected = {"C d"};
  for (int i = 10; i < 60; ++i) {
    const std::string name = "d/" + std::to_string(i);
    lower.push_back(name + "=1");
    upper.push_back(name + (i % 2 == 0 ? "=1" : "=22"));
    if (i % 2 != 0) {
      expected.push_back("C " + name + " content");
    }
  }
  make_tree(dir / "l", lower);
  make_tree(dir / "u", upper);
  CHECK(changes({dir / "u", dir / "l"}) == expected);
}

TEST_CASE("two stacks without a common layer are compared whole") {
  const TempDir dir;
  make_tree(dir / "a", {"d/x=1", "d/gone=1"});
  make_tree(dir / "b1", {"d/x=1", "d/y=1"});
  make_tree(dir / "b2", {"d/x=2", "e/"});
  const LayerStack before_stack = stack_of({dir / "a"});
  const LayerStack now_stack = stack_of({dir / "b1", dir / "b2"});
  const auto before = MergedView::open(before_stack, {});
  const auto now = MergedView::open(now_stack, {});
  REQUIRE((before && now));
  CHECK(walk(*before, *now, {}) == Lines{"C d", "D d/gone", "A d/y", "A e"});
  // The other way round the stack that is left has more layers.
  CHECK(walk(*now, *before, {}) == Lines{"C d", "A d/gone", "D d/y", "D e"});
}

TEST_CASE("over no layer at all everything is added") {
  const TempDir dir;
  make_tree(dir / "l1", {"d/x=1", "d/.wh.y="});
  make_tree(dir / "l2", {"d/y=1", "d/z=1"});
  const LayerStack stack = stack_of({dir / "l1", dir / "l2"});
  const auto now = MergedView::open(stack, {});
  const auto before = MergedView::open(stack, {2, -1});
  REQUIRE((before && now));
  CHECK(walk(*before, *now, {}) == Lines{"A ", "A d", "A d/x", "A d/z"});
}

TEST_CASE("a new name of a file makes its unchanged name part of the changes") {
  const TempDir dir;
  make_tree(dir / "l", {"d/a=1", "e/other=1"});
  make_tree(dir / "u", {"d/a=1", "z/b==d/a"});
  CHECK(changes({dir / "u", dir / "l"}) == Lines{"A z", "A z/b"});
  CHECK(changes({dir / "u", dir / "l"}, opaque()) ==
        Lines{"A z", "A z/b", "C d", "C d/a relinked"});
}

TEST_CASE("a copied-up hard link that nothing was done to is no change") {
  const TempDir dir;
  make_tree(dir / "l", {"d/a=1", "d/b==d/a"});
  make_tree(dir / "u", {"d/a=1", "d/b==d/a"});
  CHECK(changes({dir / "u", dir / "l"}, opaque()) == Lines{});
}

TEST_CASE("a changed copy in the index shows under the names that only a lower has") {
  if (!has_user_xattrs()) {
    WARN("SKIP: no user attributes in the temporary directory");
    return;
  }
  const TempDir dir;
  make_tree(dir / "l", {"d/a=1", "deep/er/b==d/a", "c==d/a", "other=1"});
  make_tree(dir / "u", {"d/a=changed"});
  const LayerStack stack = stack_of({dir / "u", dir / "l"});
  const auto lower = sys::stat_at({AT_FDCWD, (dir / "l/d/a").c_str()});
  REQUIRE(lower);
  const std::string name = format_index_name({stack.at(1).fsid, lower->stx_ino});
  make_tree(dir / "index", {});
  std::filesystem::create_hard_link(dir / "u/d/a", dir / "index/" + name);
  make_tree(dir / "u", {"d/a#user.overlay.nlink=U+1"});
  SECTION("without the index that is an error") {
    const Lines lines = changes({dir / "u", dir / "l"});
    REQUIRE(lines.size() == 1);
    CHECK(lines[0].find("'/d/a'") != std::string::npos);
    CHECK(lines[0].find("--work") != std::string::npos);
  }
  SECTION("under another layer it shows nowhere else, as in a mount") {
    make_tree(dir / "t", {"c=changed"});
    CHECK(changes({dir / "t", dir / "u", dir / "l"}) == Lines{"C c content"});
    const LayerStack all = stack_of({dir / "t", dir / "u", dir / "l"});
    const auto now = MergedView::open(all, {});
    const auto nothing = MergedView::open(all, {3, -1});
    REQUIRE((now && nothing));
    CHECK(walk(*nothing, *now, {}) ==
          Lines{"A ", "A c", "A d", "A d/a", "A deep", "A deep/er", "A deep/er/b", "A other"});
  }
  const auto index = sys::open_path(dir / "index", O_RDONLY | O_DIRECTORY);
  REQUIRE(index);
  SECTION("names come late") {
    CHECK(
        changes({dir / "u", dir / "l"}, {}, index->get()) ==
        Lines{"C d", "C d/a content", "C c content", "C deep", "C deep/er", "C deep/er/b content"});
  }
  SECTION("also when the upper has none of them any more") {
    std::filesystem::remove(dir / "u/d/a");
    make_tree(dir / "u", {"d/.wh.a="});
    CHECK(changes({dir / "u", dir / "l"}, {}, index->get()) ==
          Lines{"C d", "D d/a", "C c content", "C deep", "C deep/er", "C deep/er/b content"});
  }
  SECTION("an equal copy is no change") {
    make_tree(dir / "index", {name + "=1"});
    CHECK(changes({dir / "u", dir / "l"}, opaque(), index->get()) == Lines{});
  }
}

TEST_CASE("the order of names that come late does not depend on inode numbers") {
  for (const bool a_first : {true, false}) {
    const TempDir dir;
    make_tree(dir / "l", {"a1=1", "a2==a1", "b1=1", "b2==b1"});
    make_tree(dir / "u", {});
    const LayerStack stack = stack_of({dir / "u", dir / "l"});
    for (const char* file : {a_first ? "a1" : "b1", a_first ? "b1" : "a1"}) {
      const auto lower = sys::stat_at({AT_FDCWD, (dir / "l/" + file).c_str()});
      REQUIRE(lower);
      make_tree(dir / "index",
                {format_index_name({stack.at(1).fsid, lower->stx_ino}) + "=changed"});
    }
    const auto index = sys::open_path(dir / "index", O_RDONLY | O_DIRECTORY);
    REQUIRE(index);
    CHECK(changes({dir / "u", dir / "l"}, {}, index->get()) ==
          Lines{"C a1 content", "C b1 content", "C a2 content", "C b2 content"});
  }
}

TEST_CASE("few and many changes in a large directory are found alike") {
  const TempDir dir;
  std::vector<std::string> lower;
  for (int i = 1000; i < 3000; ++i) {
    lower.push_back("d/" + std::to_string(i) + "=1");
  }
  make_tree(dir / "l", lower);
  Lines expected = {"C d"};
  std::vector<std::string> upper;
  const auto change = [&](int from, int to) {
    for (int i = from; i < to; ++i) {
      const std::string name = std::to_string(i);
      const bool gone = i % 3 == 0;
      upper.push_back(gone ? "d/.wh." + name + "=" : "d/" + name + "=22");
      expected.push_back(gone ? "D d/" + name : "C d/" + name + " content");
    }
    make_tree(dir / "u", upper);
    CHECK(changes({dir / "u", dir / "l"}) == expected);
  };
  change(1500, 1520);
  change(1520, 2900);
}

TEST_CASE("a name outside of a moved directory is reported with its object inside") {
  if (!has_user_xattrs()) {
    WARN("SKIP: no user attributes in the temporary directory");
    return;
  }
  const TempDir dir;
  make_tree(dir / "l", {"old/x=1", "there/y==old/x"});
  make_tree(dir / "u", {"new/", "new#user.overlay.redirect=/old", ".wh.old="});
  CHECK(changes({dir / "u", dir / "l"}, opaque()) ==
        Lines{"D old", "A new", "A new/x", "C there", "C there/y relinked"});
}

TEST_CASE("a directory deeper than PATH_MAX is walked") {
  const TempDir dir;
  make_tree(dir / "l", {"d/"});
  make_tree(dir / "u", {"d/"});
  const std::string name(200, 'x');
  auto at = sys::open_path(dir / "u/d", O_PATH | O_DIRECTORY);
  for (int i = 0; i < 30; ++i) {
    REQUIRE(sys::mkdir_at({at->get(), name.c_str()}, 0755));
    at = sys::open_at({at->get(), name.c_str()}, O_PATH | O_DIRECTORY);
    REQUIRE(at);
  }
  CHECK(changes({dir / "u", dir / "l"}).size() >= 30);
}
