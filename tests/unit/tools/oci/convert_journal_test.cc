#include "tools/oci/convert_journal.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>

#include "layers/sys/syscalls.h"
#include "tests/testlib/tree_maker.h"
#include "whiteout/convert.h"

using namespace layerfs;
using namespace layerfs::oci;
using namespace layerfs::testing;

namespace {

UniqueFd open_dir(const std::string& path) {
  auto fd = sys::open_path(path, O_RDONLY | O_DIRECTORY);
  REQUIRE(fd);
  return std::move(*fd);
}

std::int64_t mtime(const std::string& path) { return stat_of(path).st_mtime; }

// Notes `noted` and changes it and the root; without an end, as one that is killed.
void killed_convert(const std::string& layer, const std::string& noted) {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const UniqueFd root(::open(layer.c_str(), O_RDONLY | O_DIRECTORY));
    const UniqueFd dir(::open((layer + "/" + noted).c_str(), O_RDONLY | O_DIRECTORY));
    auto journal = ConvertJournal::begin(root.get(), layer);
    const bool good = journal && journal->note(dir.get(), noted) &&
                      ::futimens(dir.get(), nullptr) == 0 && ::futimens(root.get(), nullptr) == 0;
    ::_exit(good ? 0 : 1);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(status == 0);
}

}  // namespace

TEST_CASE("convert journal: the next one gives back what one that was killed could not") {
  const TempDir dir;
  make_tree(dir / "l", {"a/b/x=1", "a/b~77", "a~78"});
  const std::int64_t before = mtime(dir / "l");
  killed_convert(dir / "l", "a/b");
  CHECK(mtime(dir / "l/a/b") != 77);
  CHECK(mtime(dir / "l") != before);
  SECTION("also after one that could do nothing but begin") { killed_convert(dir / "l", ""); }
  const UniqueFd root = open_dir(dir / "l");
  REQUIRE(ConvertJournal::begin(root.get(), "l"));
  CHECK(mtime(dir / "l/a/b") == 77);
  CHECK(mtime(dir / "l/a") == 78);
  CHECK(mtime(dir / "l") == before);
  CHECK(names_in(dir / "l") == std::vector<std::string>{"a"});
}

TEST_CASE("convert journal: one that is no record, or names what is gone, is no hindrance") {
  const TempDir dir;
  make_tree(dir / "l", {"a/b/x=1", "a/b~77"});
  SECTION("damaged") { make_tree(dir / "l", {std::string(kConvertJournal) + "=short"}); }
  SECTION("gone") {
    killed_convert(dir / "l", "a/b");
    std::filesystem::remove_all(dir / "l/a");
  }
  const UniqueFd root = open_dir(dir / "l");
  REQUIRE(ConvertJournal::begin(root.get(), "l"));
  for (const std::string& name : names_in(dir / "l")) {
    CHECK(name != kConvertJournal);
  }
}
