#include "fs/freeze_gate.h"

#include <fcntl.h>
#include <linux/fuse.h>

#include <catch2/catch.hpp>
#include <thread>

#include "fs/layer_setup.h"
#include "tests/testlib/fake_kernel.h"
#include "tests/testlib/layer_dirs.h"

using namespace layerfs;
using namespace layerfs::testing;
using namespace std::chrono_literals;

namespace {

std::string message(std::uint32_t opcode, NodeId node, std::string_view body = {}) {
  fuse_in_header header{};
  header.len = static_cast<std::uint32_t>(sizeof header + body.size());
  header.opcode = opcode;
  header.nodeid = node;
  return bytes_of(header) + std::string(body);
}

std::string open_message(NodeId node, int flags) {
  fuse_open_in body{};
  body.flags = static_cast<std::uint32_t>(flags);
  return message(FUSE_OPEN, node, bytes_of(body));
}

struct Fixture {
  LayerDirs dirs;
  OpenedLayers layers;
  std::unique_ptr<FreezeGate> gate;
  NodeId file = 0;
  NodeId folder = 0;

  Fixture() {
    write_file(dirs.upper() + "/file", "x");
    make_dirs(dirs.upper() + "/folder");
    auto opened = open_layers(dirs.config());
    REQUIRE(opened);
    layers = std::move(*opened);
    gate = std::make_unique<FreezeGate>(*layers.fs);
    file = node("file");
    folder = node("folder");
  }
  NodeId node(const char* name) const {
    const auto entry = layers.fs->lookup(kRootId, name);
    REQUIRE(entry);
    return entry->id;
  }
  bool passes(const std::string& text) const { return gate->admit(text).has_value(); }
  Status close(std::chrono::milliseconds patience = 50ms) const {
    return gate->close(std::chrono::steady_clock::now() + patience);
  }
};

}  // namespace

TEST_CASE("freeze gate: closed, it keeps every change back and nothing that only reads") {
  const Fixture f;
  REQUIRE(f.close());
  for (const std::uint32_t reads : {FUSE_LOOKUP, FUSE_READ, FUSE_READDIR, FUSE_GETATTR, FUSE_FLUSH,
                                    FUSE_FSYNC, FUSE_FORGET, FUSE_STATFS}) {
    CAPTURE(reads);
    CHECK(f.passes(message(reads, f.file)));
  }
  CHECK(f.passes(open_message(f.file, O_RDONLY)));
  for (const std::uint32_t changes :
       {FUSE_WRITE, FUSE_SETATTR, FUSE_CREATE, FUSE_MKNOD, FUSE_MKDIR, FUSE_SYMLINK, FUSE_LINK,
        FUSE_UNLINK, FUSE_RMDIR, FUSE_RENAME, FUSE_RENAME2, FUSE_SETXATTR, FUSE_REMOVEXATTR,
        FUSE_FALLOCATE, FUSE_COPY_FILE_RANGE, FUSE_IOCTL}) {
    CAPTURE(changes);
    CHECK_FALSE(f.passes(message(changes, f.file)));
  }
  CHECK_FALSE(f.passes(open_message(f.file, O_WRONLY)));
  CHECK_FALSE(f.passes(open_message(f.file, O_RDONLY | O_TRUNC)));
}

TEST_CASE("freeze gate: opened, it gives back what it kept, each once and in the order it came") {
  const Fixture f;
  REQUIRE(f.close());
  const std::string first = message(FUSE_MKDIR, kRootId, zero_ended("a"));
  const std::string second = message(FUSE_WRITE, f.file);
  CHECK_FALSE(f.passes(first));
  CHECK_FALSE(f.passes(second));
  CHECK(f.gate->open() == FreezeGate::Kept{first, second});
  CHECK(f.gate->open().empty());
  CHECK(f.passes(first));
}

TEST_CASE("freeze gate: settling, what the kernel gathered passes and who begins to write waits") {
  const Fixture f;
  CHECK(f.gate->settle().empty());
  CHECK(f.passes(message(FUSE_WRITE, f.file)));
  CHECK(f.passes(message(FUSE_SETATTR, f.file)));
  CHECK(f.passes(message(FUSE_GETATTR, f.folder)));
  CHECK_FALSE(f.passes(message(FUSE_GETATTR, f.file)));
  CHECK_FALSE(f.passes(message(FUSE_UNLINK, kRootId, zero_ended("file"))));
  CHECK(f.gate->writes() == 1);
}

TEST_CASE("freeze gate: settling again gives back only what may pass then") {
  const Fixture f;
  REQUIRE(f.close());
  const std::string write = message(FUSE_WRITE, f.file);
  const std::string unlink = message(FUSE_UNLINK, kRootId, zero_ended("file"));
  CHECK_FALSE(f.passes(unlink));
  CHECK_FALSE(f.passes(write));
  CHECK(f.gate->settle() == FreezeGate::Kept{write});
  CHECK(f.gate->open() == FreezeGate::Kept{unlink});
}

TEST_CASE("freeze gate: it is closed only once every change that was admitted has been served") {
  const Fixture f;
  auto pass = f.gate->admit(message(FUSE_WRITE, f.file));
  REQUIRE(pass);
  const auto early = f.close(1ms);
  REQUIRE_FALSE(early);
  CHECK(early.error().value() == ETIMEDOUT);
  std::thread server([&] {
    std::this_thread::sleep_for(20ms);
    pass.reset();
  });
  CHECK(f.close(10s));
  server.join();
}

TEST_CASE("freeze gate: an inode is locked while a request that the kernel locks it for is kept") {
  const Fixture f;
  REQUIRE(f.close());
  CHECK(f.gate->locked().empty());
  CHECK_FALSE(f.passes(message(FUSE_WRITE, f.folder)));
  CHECK(f.gate->locked().empty());
  SECTION("by its number") {
    CHECK_FALSE(f.passes(message(FUSE_SETXATTR, f.file)));
    CHECK(f.gate->locked() == std::set<NodeId>{f.file});
  }
  SECTION("by its name") {
    CHECK_FALSE(f.passes(message(FUSE_UNLINK, kRootId, zero_ended("file"))));
    CHECK(f.gate->locked() == std::set<NodeId>{f.file});
  }
  SECTION("by both names of a rename") {
    fuse_rename2_in body{};
    body.newdir = kRootId;
    CHECK_FALSE(f.passes(message(FUSE_RENAME2, kRootId,
                                 bytes_of(body) + zero_ended("file") + zero_ended("folder"))));
    CHECK(f.gate->locked() == std::set<NodeId>{f.file, f.folder});
  }
  f.gate->open();
  CHECK(f.gate->locked().empty());
}

TEST_CASE("freeze gate: a request that is cut short is no request for what lies behind its end") {
  const Fixture f;
  REQUIRE(f.close());
  const std::string whole = message(FUSE_RENAME2, kRootId);
  CHECK_FALSE(f.passes(whole));
  CHECK(f.gate->locked().empty());
}
