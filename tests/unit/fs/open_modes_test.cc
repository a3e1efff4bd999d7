// How each inode's data reaches the kernel: the rules of fs/fuse/iomode.c, whose breach
// is EIO to the user.
#include "fs/open_modes.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <map>

#include "fs/layer_setup.h"
#include "tests/testlib/layer_dirs.h"

using namespace layerfs;
using namespace layerfs::testing;
using Mode = OpenModes::Mode;
using Write = OpenModes::Write;

namespace {

struct Fixture {
  LayerDirs dirs;
  OpenedLayers layers;
  std::unique_ptr<OpenModes> modes;
  // What the kernel has registered, and the answer to the next registration.
  std::map<int, std::string> backing;
  int next_id = 1;
  bool refuses = false;

  void start(bool read_only = false) {
    write_file(dirs.lower() + "/lower", "lower");
    write_file(dirs.upper() + "/upper", "upper");
    MountConfig config = dirs.config();
    config.read_only = read_only;
    auto opened = open_layers(config);
    REQUIRE(opened);
    layers = std::move(*opened);
    modes = std::make_unique<OpenModes>(*layers.fs);
  }
  NodeId node(const char* name) const {
    const auto entry = layers.fs->lookup(kRootId, name);
    REQUIRE(entry);
    return entry->id;
  }
  OpenModes::Opened open(NodeId id, Write write) {
    const auto opened = modes->open(id, write, [this](int fd) {
      if (refuses) {
        return -1;
      }
      char content[64] = {};
      REQUIRE(::pread(fd, content, sizeof content - 1, 0) >= 0);
      backing[next_id] = content;
      return next_id++;
    });
    REQUIRE(opened);
    return *opened;
  }
  OpenModes::Released release(NodeId id, const OpenModes::Opened& opened) {
    return modes->release(id, opened.handle,
                          [this](int backing_id) { CHECK(backing.erase(backing_id) == 1); });
  }
};

}  // namespace

TEST_CASE(
    "open modes: an upper file is passed through with one backing id for all who have it open") {
  Fixture f;
  f.start();
  const NodeId id = f.node("upper");
  const auto reader = f.open(id, Write::No);
  const auto writer = f.open(id, Write::Yes);
  CHECK(reader.mode == Mode::Passthrough);
  CHECK(writer.mode == Mode::Passthrough);
  CHECK(reader.backing_id == writer.backing_id);
  CHECK(f.backing.size() == 1);
  CHECK(f.backing.at(reader.backing_id) == "upper");
  f.release(id, reader);
  CHECK(f.backing.size() == 1);
  f.release(id, writer);
  CHECK(f.backing.empty());
  const auto again = f.open(id, Write::No);
  CHECK(again.mode == Mode::Passthrough);
  f.release(id, again);
}

TEST_CASE("open modes: a lower file is read through the page cache while it can be copied up") {
  Fixture f;
  f.start();
  const NodeId id = f.node("lower");
  const auto reader = f.open(id, Write::No);
  CHECK(reader.mode == Mode::Cached);
  CHECK(reader.backing_id == 0);
  CHECK(reader.keep_cache);
  CHECK(f.backing.empty());
  // Copied up by the writer, but the kernel has the inode open in the other mode.
  const auto writer = f.open(id, Write::Yes);
  CHECK(writer.mode == Mode::Cached);
  CHECK(exists(f.dirs.upper() + "/lower"));
  f.release(id, reader);
  const auto second = f.open(id, Write::No);
  CHECK(second.mode == Mode::Cached);
  f.release(id, second);
  f.release(id, writer);
  const auto fresh = f.open(id, Write::No);
  CHECK(fresh.mode == Mode::Passthrough);
  CHECK(f.backing.at(fresh.backing_id) == "lower");
  f.release(id, fresh);
}

TEST_CASE("open modes: without an upper the lowers are passed through") {
  Fixture f;
  f.start(true);
  const NodeId id = f.node("lower");
  const auto reader = f.open(id, Write::No);
  CHECK(reader.mode == Mode::Passthrough);
  CHECK(f.backing.at(reader.backing_id) == "lower");
  f.release(id, reader);
  CHECK_FALSE(f.modes->open(id, Write::Yes, [](int) { return 1; }).ok());
}

TEST_CASE("open modes: where the kernel refuses a backing file the inode is cached") {
  Fixture f;
  f.start();
  const NodeId id = f.node("upper");
  f.refuses = true;
  const auto first = f.open(id, Write::Yes);
  CHECK(first.mode == Mode::Cached);
  // It may have been written past the page cache before.
  CHECK_FALSE(first.keep_cache);
  f.refuses = false;
  const auto second = f.open(id, Write::No);
  CHECK(second.mode == Mode::Cached);
  f.release(id, first);
  f.release(id, second);
  CHECK(f.open(id, Write::No).mode == Mode::Passthrough);
}

TEST_CASE(
    "open modes: attributes may change unseen from the first passed-through writer to the last") {
  Fixture f;
  f.start();
  const NodeId id = f.node("upper");
  const auto reader = f.open(id, Write::No);
  CHECK_FALSE(f.modes->may_change_unseen(id));
  const auto first = f.open(id, Write::Yes);
  const auto second = f.open(id, Write::Yes);
  CHECK(f.modes->may_change_unseen(id));
  CHECK_FALSE(f.release(id, first).was_writable_passthrough);
  CHECK(f.modes->may_change_unseen(id));
  CHECK(f.release(id, second).was_writable_passthrough);
  CHECK_FALSE(f.modes->may_change_unseen(id));
  CHECK_FALSE(f.release(id, reader).was_writable_passthrough);
}

TEST_CASE("open modes: a file has a writer while one is open, in either mode") {
  Fixture f;
  f.start();
  const NodeId id = f.node("upper");
  f.refuses = GENERATE(false, true);
  CAPTURE(f.refuses);
  const auto reader = f.open(id, Write::No);
  CHECK_FALSE(f.modes->has_writer(id));
  const auto first = f.open(id, Write::Yes);
  const auto second = f.open(id, Write::Yes);
  f.release(id, first);
  CHECK(f.modes->has_writer(id));
  f.release(id, second);
  CHECK_FALSE(f.modes->has_writer(id));
  f.release(id, reader);
}

TEST_CASE("open modes: releasing what is not open, or nothing, changes nothing") {
  Fixture f;
  f.start();
  const NodeId id = f.node("upper");
  const auto opened = f.open(id, Write::No);
  f.modes->release(id + 1, opened.handle, [](int) { FAIL("not this one"); });
  f.release(id, opened);
  f.modes->release(id, opened.handle, [](int) { FAIL("already closed"); });
}

TEST_CASE("open modes: data is pinned from the first open that is passed through to the last") {
  Fixture f;
  f.start();
  const NodeId id = f.node("upper");
  const auto reader = f.open(id, Write::No);
  const auto writer = f.open(id, Write::Yes);
  f.release(id, reader);
  CHECK(f.layers.fs->pins().is_pinned(id));
  f.release(id, writer);
  CHECK_FALSE(f.layers.fs->pins().is_pinned(id));
  f.refuses = true;
  const auto cached = f.open(id, Write::Yes);
  CHECK_FALSE(f.layers.fs->pins().is_pinned(id));
  f.release(id, cached);
}
