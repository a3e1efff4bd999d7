// Lookup counts, and what replies are made of.
#include "fs/fuse_ops.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <set>

#include "tests/testlib/fake_kernel.h"
#include "tests/testlib/layer_dirs.h"
#include "tests/testlib/skip.h"

using namespace layerfs;
using namespace layerfs::testing;

namespace {

constexpr std::uint64_t kRoot = FUSE_ROOT_ID;

struct Union {
  LayerDirs dirs{2};
  std::unique_ptr<FakeKernel> kernel;

  FakeKernel& start(MountConfig::Io io = MountConfig::Io::Cached) {
    MountConfig config = dirs.config();
    config.io = io;
    kernel = std::make_unique<FakeKernel>(config);
    REQUIRE(kernel->init(kLinux_6_9).error == 0);
    return *kernel;
  }
  std::uint64_t nodeid(std::uint64_t parent, std::string_view name) const {
    return kernel->lookup(parent, name).as<fuse_entry_out>().nodeid;
  }
  // Nodes in memory once all requests so far are served.
  std::uint64_t nodes() const {
    kernel->getattr(kRoot);
    return kernel->fs().node_usage().nodes;
  }
};

struct PlusEntry {
  fuse_entry_out entry;
  std::string name;
};

std::vector<PlusEntry> read_plus(FakeKernel& kernel, std::uint64_t dir) {
  const auto reply = kernel.read(dir, 0, 65536, FUSE_READDIRPLUS);
  REQUIRE(reply.error == 0);
  std::vector<PlusEntry> entries;
  for (std::size_t at = 0; at < reply.payload.size();) {
    fuse_direntplus record{};
    REQUIRE(reply.payload.size() - at >= FUSE_NAME_OFFSET_DIRENTPLUS);
    std::memcpy(&record, reply.payload.data() + at, FUSE_NAME_OFFSET_DIRENTPLUS);
    entries.push_back({record.entry_out, reply.payload.substr(at + FUSE_NAME_OFFSET_DIRENTPLUS,
                                                              record.dirent.namelen)});
    at += FUSE_DIRENTPLUS_SIZE(&record);
  }
  return entries;
}

}  // namespace

TEST_CASE("a name is one node until all its lookups are forgotten, then its id is unknown") {
  Union u;
  write_file(u.dirs.lower() + "/f", "data");
  FakeKernel& kernel = u.start();
  const std::uint64_t first = u.nodeid(kRoot, "f");
  CHECK(u.nodeid(kRoot, "f") == first);
  CHECK(u.nodeid(kRoot, "f") == first);
  CHECK(u.nodes() == 2);
  kernel.forget(first, 2);
  CHECK(kernel.getattr(first).error == 0);
  kernel.forget(first, 1);
  CHECK(kernel.getattr(first).error == ESTALE);
  CHECK(u.nodes() == 1);
  const std::uint64_t again = u.nodeid(kRoot, "f");
  CHECK(again != first);
  CHECK(kernel.getattr(first).error == ESTALE);
}

TEST_CASE("every reply with an entry counts one lookup, and the table empties by FORGET") {
  const auto io = GENERATE(MountConfig::Io::Cached, MountConfig::Io::Passthrough);
  Union u;
  write_file(u.dirs.lower() + "/old", "data");
  FakeKernel& kernel = u.start(io);
  FakeKernel::Reply reply;
  SECTION("LOOKUP") { reply = kernel.lookup(kRoot, "old"); }
  SECTION("MKNOD") { reply = kernel.make(kRoot, "new", S_IFREG | 0644); }
  SECTION("MKDIR") { reply = kernel.make(kRoot, "new", S_IFDIR | 0755); }
  SECTION("SYMLINK") {
    reply = kernel.ask(FUSE_SYMLINK, kRoot, zero_ended("new") + zero_ended("target"));
  }
  SECTION("CREATE") { reply = kernel.create(kRoot, "new", O_RDWR); }
  SECTION("CREATE of what is there") { reply = kernel.create(kRoot, "old", O_RDWR); }
  SECTION("LINK") {
    const std::uint64_t old = u.nodeid(kRoot, "old");
    fuse_link_in in{};
    in.oldnodeid = old;
    reply = kernel.ask(FUSE_LINK, kRoot, bytes_of(in) + zero_ended("new"));
    CHECK(reply.as<fuse_entry_out>().nodeid == old);
    kernel.forget(old, 1);
    CHECK(u.nodes() == 2);
  }
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
  SECTION("TMPFILE") {
    constexpr std::uint32_t kFuseTmpfile = 51;  // Linux 6.2, linux/fuse.h
    fuse_create_in in{};
    in.flags = O_RDWR;
    in.mode = S_IFREG | 0600;
    reply = kernel.ask(kFuseTmpfile, kRoot, bytes_of(in) + zero_ended(""));
  }
#endif
  const auto entry = reply.as<fuse_entry_out>();
  CHECK(u.nodes() == 2);
  CHECK(kernel.getattr(entry.nodeid).error == 0);
  kernel.forget(entry.nodeid, 1);
  CHECK(kernel.getattr(entry.nodeid).error == ESTALE);
  CHECK(u.nodes() == 1);
}

TEST_CASE("a listing that changed before its end is not left in the kernel's cache") {
  Union u;
  write_file(u.dirs.lower() + "/f", "");
  FakeKernel& kernel = u.start();
  const auto last_offset = [](const FakeKernel::Reply& reply) {
    std::uint64_t last = 0;
    for (std::size_t at = 0; at < reply.payload.size();) {
      fuse_dirent record{};
      std::memcpy(&record, reply.payload.data() + at, FUSE_NAME_OFFSET);
      last = record.off;
      at += FUSE_DIRENT_SIZE(&record);
    }
    return last;
  };
  const auto read = [&](std::uint64_t offset) {
    auto reply = kernel.read(kRoot, offset, 4096, FUSE_READDIR);
    REQUIRE(reply.error == 0);
    return reply;
  };
  const std::uint64_t end = last_offset(read(0));
  CHECK(read(end).payload.empty());
  CHECK(kernel.notifications().empty());
  REQUIRE(kernel.make(kRoot, "g", S_IFREG | 0644).error == 0);
  const std::uint64_t new_end = last_offset(read(0));
  CHECK(read(new_end).payload.empty());
  CHECK(kernel.notifications().empty());
  // A reader from before ends; whatever it is still given, its positions stay its own.
  std::uint64_t at = end;
  for (auto reply = read(at); !reply.payload.empty(); reply = read(at)) {
    at = last_offset(reply);
    CHECK(at != new_end);
  }
  CHECK(kernel.notifications().size() == 1);
}

TEST_CASE("READDIRPLUS counts a lookup for each entry but . and .., READDIR for none") {
  Union u;
  for (const char* name : {"a", "b", "c"}) {
    write_file(u.dirs.lower() + "/" + name, "");
  }
  make_dirs(u.dirs.lower(1) + "/d");
  FakeKernel& kernel = u.start();
  CHECK(kernel.read(kRoot, 0, 65536, FUSE_READDIR).error == 0);
  CHECK(u.nodes() == 1);
  const auto entries = read_plus(kernel, kRoot);
  REQUIRE(entries.size() == 6);
  std::set<std::string> names;
  for (const PlusEntry& entry : entries) {
    names.insert(entry.name);
    const bool dot = entry.name == "." || entry.name == "..";
    CHECK((entry.entry.nodeid == 0) == dot);
  }
  CHECK(names == std::set<std::string>{".", "..", "a", "b", "c", "d"});
  CHECK(u.nodes() == 5);
  for (const PlusEntry& entry : entries) {
    kernel.forget(entry.entry.nodeid, 1);
  }
  CHECK(u.nodes() == 1);
}

TEST_CASE("BATCH_FORGET takes back what each of its items says") {
  Union u;
  write_file(u.dirs.lower() + "/a", "");
  write_file(u.dirs.lower() + "/b", "");
  FakeKernel& kernel = u.start();
  const std::uint64_t a = u.nodeid(kRoot, "a");
  u.nodeid(kRoot, "a");
  const std::uint64_t b = u.nodeid(kRoot, "b");
  u.nodeid(kRoot, "b");
  fuse_batch_forget_in in{};
  in.count = 3;
  const fuse_forget_one items[3] = {{a, 2}, {b, 1}, {987654321, 7}};
  kernel.send(FUSE_BATCH_FORGET, 0, bytes_of(in) + bytes_of(items));
  CHECK(kernel.getattr(a).error == ESTALE);
  CHECK(kernel.getattr(b).error == 0);
  CHECK(u.nodes() == 2);
}

TEST_CASE("forgetting more than was looked up, or the root, ends nothing else") {
  Union u;
  make_dirs(u.dirs.lower() + "/d");
  write_file(u.dirs.lower() + "/d/f", "data");
  FakeKernel& kernel = u.start();
  const std::uint64_t dir = u.nodeid(kRoot, "d");
  const std::uint64_t file = u.nodeid(dir, "f");
  kernel.forget(dir, ~std::uint64_t{0});
  kernel.forget(kRoot, 1000);
  kernel.forget(0, 1);
  CHECK(kernel.getattr(file).error == 0);
  CHECK(kernel.getattr(kRoot).error == 0);
  kernel.forget(file, 1);
  CHECK(u.nodes() == 1);
}

TEST_CASE("a directory forgotten before its child stays for the child's path") {
  Union u;
  make_dirs(u.dirs.lower() + "/d/e");
  write_file(u.dirs.lower() + "/d/e/f", "data");
  FakeKernel& kernel = u.start();
  const std::uint64_t d = u.nodeid(kRoot, "d");
  const std::uint64_t e = u.nodeid(d, "e");
  const std::uint64_t f = u.nodeid(e, "f");
  kernel.forget(d, 1);
  kernel.forget(e, 1);
  CHECK(kernel.read(f, 0, 10).payload == "data");
  CHECK(kernel.write(f, 0, "new").error == 0);
  CHECK(read_file(u.dirs.upper() + "/d/e/f") == "newa");
  CHECK(u.nodeid(kRoot, "d") == d);
  kernel.forget(d, 1);
  kernel.forget(f, 1);
  CHECK(u.nodes() == 1);
}

TEST_CASE("an unlinked file is served until its last lookup is forgotten, then its space is free") {
  Union u;
  FakeKernel& kernel = u.start();
  const auto made = kernel.create(kRoot, "f", O_RDWR).as<fuse_entry_out>();
  CHECK(kernel.write(made.nodeid, 0, "data").error == 0);
  CHECK(kernel.ask(FUSE_UNLINK, kRoot, zero_ended("f")).error == 0);
  CHECK(kernel.read(made.nodeid, 0, 10).payload == "data");
  CHECK(kernel.getattr(made.nodeid).as<fuse_attr_out>().attr.nlink == 0);
  CHECK(names_in(u.dirs.work() + "/work").size() == 1);
  kernel.forget(made.nodeid, 1);
  CHECK(u.nodes() == 1);
  CHECK(names_in(u.dirs.work() + "/work").empty());
}

TEST_CASE("a lookup whose reply the kernel refuses does not count") {
  Union u;
  write_file(u.dirs.lower() + "/f", "data");
  make_dirs(u.dirs.lower() + "/d");
  FakeKernel& kernel = u.start();
  kernel.refuse_replies();
  SECTION("LOOKUP") { kernel.send(FUSE_LOOKUP, kRoot, zero_ended("f")); }
  SECTION("CREATE") {
    fuse_create_in in{};
    in.flags = O_RDWR | O_CREAT;
    in.mode = S_IFREG | 0644;
    kernel.send(FUSE_CREATE, kRoot, bytes_of(in) + zero_ended("new"));
  }
  SECTION("READDIRPLUS") {
    fuse_read_in in{};
    in.size = 4096;
    kernel.send(FUSE_READDIRPLUS, kRoot, bytes_of(in));
  }
  kernel.hang_up();
  CHECK(kernel.fs().node_usage().nodes == 1);
}

TEST_CASE("a missing name is an entry without a node, to be remembered as long as any other") {
  Union u;
  FakeKernel& kernel = u.start();
  const auto absent = kernel.lookup(kRoot, "none").as<fuse_entry_out>();
  CHECK(absent.nodeid == 0);
  const auto present = kernel.make(kRoot, "f", S_IFREG | 0644).as<fuse_entry_out>();
  CHECK(absent.entry_valid == present.entry_valid);
  CHECK(absent.entry_valid > 1000000);
  CHECK(present.attr_valid == present.entry_valid);
}

TEST_CASE("a file that cannot be passed through is opened through the page cache") {
#if FUSE_VERSION < FUSE_MAKE_VERSION(3, 17)
  SKIP_TEST("this libfuse has no passthrough");
#else
  Union u;
  FakeKernel& kernel = u.start(MountConfig::Io::Passthrough);
  const auto made = kernel.create(kRoot, "f", O_RDWR);
  const auto entry = made.as<fuse_entry_out>();
  fuse_open_out opened{};
  std::memcpy(&opened, made.payload.data() + sizeof entry, sizeof opened);
  // No backing file can be registered on a socket.
  CHECK(entry.attr_valid > 1000000);
  CHECK((opened.open_flags & FOPEN_KEEP_CACHE) == 0);
  CHECK(opened.fh != 0);
#endif
}

TEST_CASE("no reply carries bytes that were not set") {
  Union u;
  write_file(u.dirs.lower() + "/f", "data");
  write_file(u.dirs.lower() + "/odd-sized-name", "");
  make_dirs(u.dirs.lower() + "/d");
  FakeKernel& kernel = u.start();
  const std::uint64_t file = u.nodeid(kRoot, "f");

  const auto entry = kernel.lookup(kRoot, "f").as<fuse_entry_out>();
  CHECK(entry.attr.flags == 0);
  const auto absent = kernel.lookup(kRoot, "none").payload;
  fuse_entry_out nothing{};
  std::memcpy(&nothing, absent.data(), sizeof nothing);
  nothing.entry_valid = 0;
  CHECK(bytes_of(nothing) == std::string(sizeof nothing, '\0'));
  const auto attr = kernel.getattr(file).as<fuse_attr_out>();
  CHECK(attr.dummy == 0);
  CHECK(attr.attr.flags == 0);
  const auto statfs = kernel.ask(FUSE_STATFS, kRoot).as<fuse_statfs_out>();
  CHECK(statfs.st.padding == 0);
  CHECK(std::all_of(std::begin(statfs.st.spare), std::end(statfs.st.spare),
                    [](std::uint32_t word) { return word == 0; }));
  const auto written = kernel.write(file, 0, "data").as<fuse_write_out>();
  CHECK(written.padding == 0);
  const auto size = kernel.ask(FUSE_LISTXATTR, file, bytes_of(fuse_getxattr_in{}));
  CHECK(size.as<fuse_getxattr_out>().padding == 0);
  const auto created = kernel.create(kRoot, "new", O_RDWR);
  REQUIRE(created.payload.size() == sizeof(fuse_entry_out) + sizeof(fuse_open_out));
  fuse_open_out opened{};
  std::memcpy(&opened, created.payload.data() + sizeof(fuse_entry_out), sizeof opened);
  CHECK(opened.padding == 0);
  CHECK(opened.fh == 0);

  for (const auto opcode : {FUSE_READDIR, FUSE_READDIRPLUS}) {
    const std::size_t header =
        opcode == FUSE_READDIR ? FUSE_NAME_OFFSET : FUSE_NAME_OFFSET_DIRENTPLUS;
    const std::string list = kernel.read(kRoot, 0, 65536, opcode).payload;
    for (std::size_t at = 0; at < list.size();) {
      fuse_dirent dirent{};
      std::memcpy(&dirent, list.data() + at + header - FUSE_NAME_OFFSET, FUSE_NAME_OFFSET);
      const std::size_t end = at + header + dirent.namelen;
      const std::size_t next = at + FUSE_DIRENT_ALIGN(header + dirent.namelen);
      REQUIRE(next <= list.size());
      CHECK(list.substr(end, next - end) == std::string(next - end, '\0'));
      at = next;
    }
  }
}

TEST_CASE("attributes are those of the object, with the union's inode number") {
  Union u;
  write_file(u.dirs.lower() + "/f", "data");
  REQUIRE(::chmod((u.dirs.lower() + "/f").c_str(), 04751) == 0);
  const struct stat st = stat_of(u.dirs.lower() + "/f");
  FakeKernel& kernel = u.start();
  const auto entry = kernel.lookup(kRoot, "f").as<fuse_entry_out>();
  CHECK(entry.attr.ino != 0);
  CHECK(entry.attr.size == 4);
  CHECK(entry.attr.mode == st.st_mode);
  CHECK(entry.attr.uid == st.st_uid);
  CHECK(entry.attr.nlink == 1);
  CHECK(entry.attr.mtime == static_cast<std::uint64_t>(st.st_mtim.tv_sec));
  CHECK(entry.attr.mtimensec == static_cast<std::uint32_t>(st.st_mtim.tv_nsec));
  CHECK(kernel.getattr(entry.nodeid).as<fuse_attr_out>().attr.ino == entry.attr.ino);
}
