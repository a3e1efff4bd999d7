// What a copy is like: what is left to be synced, its permissions.
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "fs/layer_setup.h"
#include "tests/testlib/layer_dirs.h"
#include "tests/testlib/skip.h"

using namespace layerfs;
using namespace layerfs::testing;

namespace {

enum class How { OpenedForWriting, Truncated, FilledAfterChmod };

void copy_up(FileSystem& fs, NodeId id, How how) {
  AttributeChange change;
  if (how == How::Truncated) {
    change.size = 0;
    REQUIRE(fs.set_attributes(id, change));
    return;
  }
  if (how == How::FilledAfterChmod) {
    change.mode = 0600;
    REQUIRE(fs.set_attributes(id, change));
  }
  REQUIRE(fs.data(id, FileSystem::Access::Write));
}

}  // namespace

// The kernel syncs the data of what it passes through, not the name by which it is found.
TEST_CASE("copy_up: a copy is unsettled until it was synced once, empty or not") {
  const std::string content = GENERATE(as<std::string>(), "", "content");
  const How how = GENERATE(How::OpenedForWriting, How::Truncated, How::FilledAfterChmod);
  CAPTURE(content, static_cast<int>(how));
  const LayerDirs dirs;
  write_file(dirs.lower() + "/f", content);
  const auto layers = open_layers(dirs.config());
  REQUIRE(layers);
  FileSystem& fs = *layers->fs;
  const auto entry = fs.lookup(kRootId, "f");
  REQUIRE(entry);
  CHECK_FALSE(fs.is_unsettled_copy(entry->id));
  copy_up(fs, entry->id, how);
  CHECK(fs.is_unsettled_copy(entry->id));
  REQUIRE(fs.sync(entry->id, true));
  CHECK_FALSE(fs.is_unsettled_copy(entry->id));
}

TEST_CASE("copy_up: the copy has the permissions of the lower file, whatever they are") {
  const mode_t mode = GENERATE(0, 0004, 0200, 0444, 0600, 0644, 0777, 01666, 02755, 04711, 07777);
  const bool metadata_only = GENERATE(true, false);
  CAPTURE(mode, metadata_only);
  if (::geteuid() != 0 && (mode & 0400U) == 0) {
    SKIP_TEST("only root can read the lower file");
  }
  const LayerDirs dirs;
  write_file(dirs.lower() + "/f", "content");
  REQUIRE(::chmod((dirs.lower() + "/f").c_str(), mode) == 0);
  const auto layers = open_layers(dirs.config());
  REQUIRE(layers);
  const auto entry = layers->fs->lookup(kRootId, "f");
  REQUIRE(entry);
  if (metadata_only) {
    AttributeChange change;
    change.mtime = {1, 0};
    change.atime = {1, 0};
    REQUIRE(layers->fs->set_attributes(entry->id, change));
  } else {
    REQUIRE(layers->fs->data(entry->id, FileSystem::Access::Write));
  }
  const auto shown = layers->fs->get_attributes(entry->id);
  REQUIRE(shown);
  CHECK((shown->st_mode & 07777U) == mode);
}
