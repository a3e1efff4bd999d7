#include "tests/testlib/tree_manifest.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <catch2/catch.hpp>

namespace layerfs::testlib {
namespace {

// Two equal small trees, made with the same times.
class TwoTrees {
 public:
  TwoTrees() {
    std::string pattern = std::filesystem::temp_directory_path() / "tree-manifest-XXXXXX";
    REQUIRE(::mkdtemp(pattern.data()) != nullptr);
    top = pattern;
    make(a());
    make(b());
  }
  TwoTrees(const TwoTrees&) = delete;
  TwoTrees& operator=(const TwoTrees&) = delete;
  ~TwoTrees() { std::filesystem::remove_all(top); }

  std::string a() const { return top + "/a"; }
  std::string b() const { return top + "/b"; }

  std::vector<std::string> differences() const {
    return describe_differences(scan_tree(a(), options), scan_tree(b(), options), options, 100);
  }

  static void write(const std::string& path, const std::string& content) {
    std::ofstream(path) << content;
  }

  static void set_time(const std::string& path, long nanoseconds) {
    const struct timespec times[2] = {{1000, 0}, {1000, nanoseconds}};
    REQUIRE(::utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW) == 0);
  }

  static void settle(const std::string& tree) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(tree))
      set_time(entry.path(), 1);
    set_time(tree, 1);
  }

  std::string top;
  ManifestOptions options;

 private:
  static void make(const std::string& tree) {
    std::filesystem::create_directories(tree + "/dir/inner");
    write(tree + "/dir/file", "content");
    write(tree + "/one", "linked");
    std::filesystem::create_hard_link(tree + "/one", tree + "/two");
    std::filesystem::create_symlink("one", tree + "/symlink");
    REQUIRE(::mkfifo((tree + "/fifo").c_str(), 0600) == 0);
    settle(tree);
  }
};

TEST_CASE("equal trees have no differences", "[tree_manifest]") {
  TwoTrees trees;
  CHECK(trees.differences().empty());
}

TEST_CASE("each kind of difference between two trees is found", "[tree_manifest]") {
  TwoTrees trees;
  const std::string b = trees.b();
  SECTION("content of the same length") {
    TwoTrees::write(b + "/dir/file", "CONTENT");
    TwoTrees::settle(b);
  }
  SECTION("a nanosecond in the mtime of a symlink") { TwoTrees::set_time(b + "/symlink", 2); }
  SECTION("mode") { REQUIRE(::chmod((b + "/dir").c_str(), 01755) == 0); }
  SECTION("a hard link that became a copy") {
    std::filesystem::remove(b + "/two");
    TwoTrees::write(b + "/two", "linked");
    TwoTrees::settle(b);
  }
  SECTION("symlink target") {
    std::filesystem::remove(b + "/symlink");
    std::filesystem::create_symlink("two", b + "/symlink");
    TwoTrees::settle(b);
  }
  SECTION("a file that is missing") {
    std::filesystem::remove(b + "/dir/file");
    TwoTrees::settle(b);
  }
  SECTION("a directory that is too many") {
    std::filesystem::create_directory(b + "/dir/more");
    TwoTrees::settle(b);
  }
  SECTION("type") {
    std::filesystem::remove(b + "/fifo");
    TwoTrees::write(b + "/fifo", "");
    REQUIRE(::chmod((b + "/fifo").c_str(), 0600) == 0);
    TwoTrees::settle(b);
  }
  SECTION("an extended attribute, where the filesystem has them") {
    if (::setxattr((b + "/dir/file").c_str(), "user.layerfs", "1", 1, 0) != 0)
      TwoTrees::write(b + "/no-xattrs-here", "");
  }
  CHECK_FALSE(trees.differences().empty());
}

TEST_CASE("what is left out is not compared, and only that", "[tree_manifest]") {
  TwoTrees trees;
  TwoTrees::set_time(trees.b() + "/dir/file", 2);
  trees.options.no_mtime_below = {"dir/fi"};
  CHECK(trees.differences().size() == 2);
  trees.options.no_mtime_below = {"dir"};
  CHECK(trees.differences().empty());
  TwoTrees::write(trees.b() + "/dir/file", "CONTENT");
  CHECK_FALSE(trees.differences().empty());
  trees.options.exclude_below = {"dir/file"};
  CHECK(trees.differences().empty());
}

TEST_CASE("an unreadable entry is an error that names it", "[tree_manifest]") {
  const Manifest manifest = scan_tree("/proc/self/no-such-directory", {});
  REQUIRE(manifest.errors.size() == 1);
  CHECK(manifest.errors[0].find("no-such-directory") != std::string::npos);
}

TEST_CASE("a scan changes no time of access", "[tree_manifest]") {
  TwoTrees trees;
  trees.options.times_of_access = true;
  trees.options.times_of_change = true;
  const Manifest before = scan_tree(trees.a(), trees.options);
  const Manifest after = scan_tree(trees.a(), trees.options);
  if (::geteuid() != 0) return;
  CHECK(describe_differences(before, after, trees.options, 10).empty());
}

TEST_CASE("a mount point is listed and not entered", "[tree_manifest]") {
  ManifestOptions options;
  options.content = false;
  // Only the mounts at the top are of interest; the rest of a machine is large.
  options.exclude_below = {"usr", "var", "root", "home", "work", "tmp", "opt", "etc", "mnt", "srv"};
  const Manifest manifest = scan_tree("/", options);
  const auto proc = std::find_if(manifest.entries.begin(), manifest.entries.end(),
                                 [](const ManifestEntry& entry) { return entry.path == "proc"; });
  REQUIRE(proc != manifest.entries.end());
  CHECK(proc->is_mount_point);
  CHECK((proc + 1 == manifest.entries.end() || !(proc + 1)->path.starts_with("proc/")));
}

TEST_CASE("names are escaped so that a line stays a line", "[tree_manifest]") {
  CHECK(escape_bytes("a b\n\\\xff") == "a\\x20b\\x0a\\x5c\\xff");
}

}  // namespace
}  // namespace layerfs::testlib
