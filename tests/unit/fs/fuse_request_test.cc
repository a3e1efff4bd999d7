// Requests that no kernel sends, or should not: each is answered with an error, touches
// nothing outside the layers, and leaves a session that serves on.
#include "fs/fuse_request.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <catch2/catch.hpp>
#include <limits>

#include "tests/testlib/fake_kernel.h"
#include "tests/testlib/layer_dirs.h"

using namespace layerfs;
using namespace layerfs::testing;

namespace {

constexpr std::uint64_t kRoot = FUSE_ROOT_ID;

struct Union {
  LayerDirs dirs;
  std::unique_ptr<FakeKernel> kernel;

  FakeKernel& start() {
    make_dirs(dirs.lower() + "/d");
    write_file(dirs.lower() + "/f", "data");
    REQUIRE(::symlink("f", (dirs.lower() + "/s").c_str()) == 0);
    REQUIRE(::mkfifo((dirs.lower() + "/p").c_str(), 0644) == 0);
    kernel = std::make_unique<FakeKernel>(dirs.config());
    REQUIRE(kernel->init(kLinux_6_9).error == 0);
    return *kernel;
  }
  std::uint64_t nodeid(std::string_view name, std::uint64_t parent = kRoot) const {
    return kernel->lookup(parent, name).as<fuse_entry_out>().nodeid;
  }
  void check_serves() const { CHECK(kernel->read(nodeid("f"), 0, 10).payload == "data"); }
};

template <class T>
std::string args(T value, std::string_view first, std::string_view second = {}) {
  std::string bytes = bytes_of(value) + zero_ended(first);
  return second.data() == nullptr ? bytes : bytes + zero_ended(second);
}

struct Request {
  const char* kind;
  std::uint32_t opcode;
  std::string arguments;
};

// One of each kind, well-formed but for whatever node it is asked of.
std::vector<Request> one_of_each() {
  fuse_rename2_in rename2{};
  rename2.newdir = kRoot;
  fuse_rename_in rename{};
  rename.newdir = kRoot;
  fuse_mknod_in mknod{};
  mknod.mode = S_IFREG | 0644;
  fuse_mkdir_in mkdir{};
  mkdir.mode = 0755;
  fuse_create_in create{};
  create.mode = S_IFREG | 0644;
  create.flags = O_RDWR | O_CREAT;
  fuse_link_in link{};
  link.oldnodeid = kRoot;
  fuse_read_in read{};
  read.size = 4096;
  fuse_write_in write{};
  write.size = 4;
  fuse_setattr_in chmod{};
  chmod.valid = FATTR_MODE;
  fuse_setattr_in truncate{};
  truncate.valid = FATTR_SIZE;
  fuse_getxattr_in getxattr{};
  getxattr.size = 100;
  fuse_ioctl_in ioctl{};
  ioctl.cmd = 0x80086601;  // FS_IOC_GETFLAGS
  ioctl.out_size = 8;
  fuse_fallocate_in fallocate{};
  fallocate.length = 1;
  return {
      {"LOOKUP", FUSE_LOOKUP, zero_ended("x")},
      {"GETATTR", FUSE_GETATTR, bytes_of(fuse_getattr_in{})},
      {"SETATTR mode", FUSE_SETATTR, bytes_of(chmod)},
      {"SETATTR size", FUSE_SETATTR, bytes_of(truncate)},
      {"SETATTR nothing", FUSE_SETATTR, bytes_of(fuse_setattr_in{})},
      {"READLINK", FUSE_READLINK, ""},
      {"SYMLINK", FUSE_SYMLINK, zero_ended("x") + zero_ended("t")},
      {"MKNOD", FUSE_MKNOD, args(mknod, "x")},
      {"MKDIR", FUSE_MKDIR, args(mkdir, "x")},
      {"UNLINK", FUSE_UNLINK, zero_ended("x")},
      {"RMDIR", FUSE_RMDIR, zero_ended("x")},
      {"RENAME", FUSE_RENAME, args(rename, "x", "y")},
      {"RENAME2", FUSE_RENAME2, args(rename2, "x", "y")},
      {"LINK", FUSE_LINK, args(link, "x")},
      {"READ", FUSE_READ, bytes_of(read)},
      {"WRITE", FUSE_WRITE, bytes_of(write) + "data"},
      {"FSYNC", FUSE_FSYNC, bytes_of(fuse_fsync_in{})},
      {"SETXATTR", FUSE_SETXATTR,
       std::string(FUSE_COMPAT_SETXATTR_IN_SIZE, '\0') + zero_ended("user.x")},
      {"GETXATTR", FUSE_GETXATTR, args(getxattr, "user.x")},
      {"LISTXATTR", FUSE_LISTXATTR, bytes_of(getxattr)},
      {"REMOVEXATTR", FUSE_REMOVEXATTR, zero_ended("user.x")},
      {"READDIR", FUSE_READDIR, bytes_of(read)},
      {"READDIRPLUS", FUSE_READDIRPLUS, bytes_of(read)},
      {"FSYNCDIR", FUSE_FSYNCDIR, bytes_of(fuse_fsync_in{})},
      {"CREATE", FUSE_CREATE, args(create, "x")},
      {"IOCTL", FUSE_IOCTL, bytes_of(ioctl)},
      {"FALLOCATE", FUSE_FALLOCATE, bytes_of(fallocate)},
  };
}

}  // namespace

TEST_CASE("a node that was never given out is ESTALE to every kind of request") {
  Union u;
  FakeKernel& kernel = u.start();
  const std::uint64_t forgotten = u.nodeid("f");
  kernel.forget(forgotten, 1);
  for (const std::uint64_t nodeid :
       {std::uint64_t{0}, forgotten, forgotten + 1, std::uint64_t{1} << 32U | 1U,
        std::uint64_t{0xffffffff}, ~std::uint64_t{0}}) {
    for (const Request& request : one_of_each()) {
      CAPTURE(nodeid, request.kind);
      CHECK(kernel.ask(request.opcode, nodeid, request.arguments).error == ESTALE);
    }
  }
  CHECK(names_in(u.dirs.upper()).empty());
  u.check_serves();
}

TEST_CASE("a second node that was never given out is ESTALE to LINK, RENAME and COPY_FILE_RANGE") {
  Union u;
  FakeKernel& kernel = u.start();
  const std::uint64_t file = u.nodeid("f");
  fuse_link_in link{};
  link.oldnodeid = 999;
  CHECK(kernel.ask(FUSE_LINK, kRoot, args(link, "x")).error == ESTALE);
  fuse_rename2_in rename{};
  rename.newdir = 999;
  CHECK(kernel.ask(FUSE_RENAME2, kRoot, args(rename, "f", "x")).error == ESTALE);
  fuse_copy_file_range_in copy{};
  copy.nodeid_out = 999;
  copy.len = 4;
  CHECK(kernel.ask(FUSE_COPY_FILE_RANGE, file, bytes_of(copy)).error == ESTALE);
  u.check_serves();
}

TEST_CASE("a name that is no single component neither finds nor makes anything") {
  Union u;
  FakeKernel& kernel = u.start();
  const std::uint64_t file = u.nodeid("f");
  const auto outside = names_in(u.dirs.base());
  const std::string name = GENERATE(as<std::string>{}, "", ".", "..", "/", "d/x", "../x", "d/../x",
                                    "/etc", "d/", std::string(256, 'n'), std::string(5000, 'n'));
  CAPTURE(name);
  const auto found = kernel.lookup(kRoot, name);
  CHECK((found.error != 0 || found.as<fuse_entry_out>().nodeid == 0));
  for (const Request& request : one_of_each()) {
    std::string arguments;
    switch (request.opcode) {
      case FUSE_MKNOD:
      case FUSE_MKDIR:
      case FUSE_CREATE:
        // The struct, and this name in place of "x".
        arguments = request.arguments.substr(0, request.arguments.size() - 2) + zero_ended(name);
        break;
      case FUSE_SYMLINK:
        arguments = zero_ended(name) + zero_ended("t");
        break;
      case FUSE_UNLINK:
      case FUSE_RMDIR:
        arguments = zero_ended(name);
        break;
      default:
        continue;
    }
    CAPTURE(request.kind);
    const int error = kernel.ask(request.opcode, kRoot, arguments).error;
    CHECK((error == EINVAL || error == ENAMETOOLONG || error == ENOENT));
  }
  fuse_link_in link{};
  link.oldnodeid = file;
  CHECK(kernel.ask(FUSE_LINK, kRoot, args(link, name)).error != 0);
  fuse_rename2_in rename{};
  rename.newdir = kRoot;
  CHECK(kernel.ask(FUSE_RENAME2, kRoot, args(rename, "f", name)).error != 0);
  CHECK(kernel.ask(FUSE_RENAME2, kRoot, args(rename, name, "x")).error != 0);
  CHECK(names_in(u.dirs.base()) == outside);
  CHECK(names_in(u.dirs.upper()).empty());
  CHECK(names_in(u.dirs.work() + "/work").empty());
  u.check_serves();
}

TEST_CASE("a request meant for another type of object is an error, and opens no device or FIFO") {
  Union u;
  if (::geteuid() == 0) {
    // Opening it would be an error of its own (ENXIO): no such device.
    REQUIRE(::mknod((u.dirs.lower() + "/c").c_str(), S_IFCHR | 0644, makedev(4095, 7)) == 0);
  }
  FakeKernel& kernel = u.start();
  const std::uint64_t dir = u.nodeid("d");
  const std::uint64_t file = u.nodeid("f");
  const auto error_of = [&](std::uint32_t opcode, std::uint64_t nodeid) {
    for (const Request& request : one_of_each()) {
      if (request.opcode == opcode && std::string_view(request.kind) != "SETATTR mode") {
        return kernel.ask(opcode, nodeid, request.arguments).error;
      }
    }
    return -1;
  };
  CHECK(error_of(FUSE_READ, dir) == EISDIR);
  CHECK(error_of(FUSE_WRITE, dir) == EISDIR);
  CHECK(error_of(FUSE_FALLOCATE, dir) == EISDIR);
  CHECK(error_of(FUSE_SETATTR, dir) == EISDIR);
  CHECK(error_of(FUSE_READLINK, file) == EINVAL);
  CHECK(error_of(FUSE_READLINK, dir) != 0);
  for (const std::uint32_t opcode : {FUSE_LOOKUP, FUSE_MKNOD, FUSE_MKDIR, FUSE_CREATE, FUSE_SYMLINK,
                                     FUSE_UNLINK, FUSE_RMDIR, FUSE_READDIR, FUSE_READDIRPLUS}) {
    CAPTURE(opcode);
    CHECK(error_of(opcode, file) == ENOTDIR);
  }
  fuse_link_in link{};
  link.oldnodeid = dir;
  CHECK(kernel.ask(FUSE_LINK, kRoot, args(link, "x")).error == EPERM);
  std::vector<const char*> special = {"s", "p"};
  if (::geteuid() == 0) {
    special.push_back("c");
  }
  for (const char* name : special) {
    CAPTURE(name);
    CHECK(error_of(FUSE_READ, u.nodeid(name)) == EINVAL);
    CHECK(error_of(FUSE_WRITE, u.nodeid(name)) == EINVAL);
    CHECK(error_of(FUSE_IOCTL, u.nodeid(name)) == ENOTTY);
  }
  u.check_serves();
}

TEST_CASE("a directory cannot be moved into itself, nor under a directory that is gone") {
  Union u;
  FakeKernel& kernel = u.start();
  const std::uint64_t dir = u.nodeid("d");
  const auto sub = kernel.make(dir, "sub", S_IFDIR | 0755).as<fuse_entry_out>().nodeid;
  fuse_rename2_in rename{};
  rename.newdir = sub;
  CHECK(kernel.ask(FUSE_RENAME2, kRoot, args(rename, "d", "x")).error == EINVAL);
  rename.newdir = dir;
  CHECK(kernel.ask(FUSE_RENAME2, kRoot, args(rename, "d", "x")).error == EINVAL);
  CHECK(kernel.ask(FUSE_RMDIR, dir, zero_ended("sub")).error == 0);
  rename.newdir = sub;
  CHECK(kernel.ask(FUSE_RENAME2, kRoot, args(rename, "f", "x")).error == ENOENT);
  CHECK(kernel.make(sub, "x", S_IFREG | 0644).error == ENOENT);
  CHECK(kernel.make(sub, "x", S_IFDIR | 0755).error == ENOENT);
  CHECK(kernel.read(sub, 0, 4096, FUSE_READDIR).error == 0);
  u.check_serves();
}

TEST_CASE("offsets and sizes beyond reason are errors or the end of the file") {
  Union u;
  FakeKernel& kernel = u.start();
  const std::uint64_t file = u.nodeid("f");
  constexpr auto kMost = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  CHECK(kernel.read(file, 0, 0).payload.empty());
  CHECK(kernel.read(file, 1000, 10).payload.empty());
  CHECK(kernel.read(file, kMost, 1).error == EINVAL);
  CHECK(kernel.read(file, kMost + 1, 10).error == EINVAL);
  CHECK(kernel.read(file, ~std::uint64_t{0}, 10).error == EINVAL);
  CHECK(kernel.read(file, 0, 0xffffffffU).error == EINVAL);
  CHECK(kernel.read(file, 0, 1U << 20U).payload == "data");
  CHECK(kernel.read(kRoot, 0, 0xffffffffU, FUSE_READDIR).error == EINVAL);
  CHECK(kernel.write(file, ~std::uint64_t{0}, "x").error == EINVAL);
  const int far = kernel.write(file, kMost, "x").error;
  CHECK((far == EFBIG || far == EINVAL));
  fuse_setattr_in truncate{};
  truncate.valid = FATTR_SIZE;
  truncate.size = ~std::uint64_t{0};
  CHECK(kernel.ask(FUSE_SETATTR, file, bytes_of(truncate)).error == EINVAL);
  fuse_fallocate_in fallocate{};
  fallocate.offset = ~std::uint64_t{0};
  fallocate.length = 1;
  CHECK(kernel.ask(FUSE_FALLOCATE, file, bytes_of(fallocate)).error == EINVAL);
  fallocate = {};
  fallocate.length = 1;
  fallocate.mode = 0xffff;
  CHECK(kernel.ask(FUSE_FALLOCATE, file, bytes_of(fallocate)).error == EOPNOTSUPP);
  fuse_getxattr_in getxattr{};
  getxattr.size = 0xffffffffU;
  CHECK(kernel.ask(FUSE_GETXATTR, file, args(getxattr, "user.none")).error == ENODATA);
  CHECK(kernel.ask(FUSE_LISTXATTR, file, bytes_of(getxattr)).error == 0);
  CHECK(kernel.ask(FUSE_GETXATTR, file, args(getxattr, "")).error != 0);
  CHECK(kernel.ask(FUSE_GETXATTR, file, args(getxattr, std::string(5000, 'n'))).error != 0);
  u.check_serves();
}

TEST_CASE("reads of a directory fit whatever buffer, and arbitrary offsets only skip") {
  Union u;
  FakeKernel& kernel = u.start();
  for (const auto opcode : {FUSE_READDIR, FUSE_READDIRPLUS}) {
    const std::size_t smallest =
        (opcode == FUSE_READDIR ? FUSE_NAME_OFFSET : FUSE_NAME_OFFSET_DIRENTPLUS) + 8;
    const std::size_t whole = kernel.read(kRoot, 0, 65536, opcode).payload.size();
    for (std::uint32_t size = 0; size < 400; ++size) {
      const auto reply = kernel.read(kRoot, 0, size, opcode);
      CAPTURE(size);
      REQUIRE(reply.error == 0);
      REQUIRE(reply.payload.size() <= size);
      REQUIRE((reply.payload.empty()) == (size < smallest));
    }
    for (const std::uint64_t offset :
         {std::uint64_t{1}, std::uint64_t{2}, std::uint64_t{3}, std::uint64_t{1} << 40U,
          (std::uint64_t{1} << 62U) + 1, (std::uint64_t{1} << 63U) - 1,
          (std::uint64_t{1} << 63U) + 2, ~std::uint64_t{0}}) {
      CAPTURE(offset);
      const auto reply = kernel.read(kRoot, offset, 65536, opcode);
      CHECK(reply.error == 0);
      CHECK(reply.payload.size() < whole);
    }
  }
  u.check_serves();
}

TEST_CASE("SETATTR of nothing changes nothing but the set-id bits") {
  Union u;
  write_file(u.dirs.upper() + "/g", "data");
  REQUIRE(::chmod((u.dirs.upper() + "/g").c_str(), 06755) == 0);
  FakeKernel& kernel = u.start();
  const auto before = kernel.lookup(kRoot, "g").as<fuse_entry_out>();
  fuse_setattr_in in{};
  SECTION("before a write by whoever has the file open") { kernel.uid = before.attr.uid + 1; }
  SECTION("for a chown of neither owner nor group by the owner") { in.valid = FATTR_CTIME; }
  const auto after = kernel.ask(FUSE_SETATTR, before.nodeid, bytes_of(in)).as<fuse_attr_out>();
  CHECK(after.attr.mode == (S_IFREG | 0755));
  CHECK(after.attr.size == before.attr.size);
  CHECK(after.attr.mtime == before.attr.mtime);
  CHECK(after.attr.mtimensec == before.attr.mtimensec);
  CHECK(after.attr.uid == before.attr.uid);
}

TEST_CASE(
    "a stranger's chown of neither owner nor group is EPERM where it would drop set-id bits") {
  Union u;
  write_file(u.dirs.upper() + "/g", "data");
  const mode_t mode = GENERATE(06755, 02755, 04644, 02644, 0755);
  REQUIRE(::chmod((u.dirs.upper() + "/g").c_str(), mode) == 0);
  FakeKernel& kernel = u.start();
  const std::uint64_t id = u.nodeid("g");
  fuse_setattr_in in{};
  in.valid = FATTR_CTIME;
  kernel.uid += 1;
  kernel.gid += 1;
  CHECK(kernel.ask(FUSE_SETATTR, id, bytes_of(in)).error == (mode == 0755 ? 0 : EPERM));
  CHECK(kernel.getattr(id).as<fuse_attr_out>().attr.mode == (S_IFREG | mode));
}

TEST_CASE("an INTERRUPT of an unknown or finished request is no answer to anything") {
  Union u;
  FakeKernel& kernel = u.start();
  fuse_interrupt_in in{};
  in.unique = kernel.send(FUSE_GETATTR, kRoot, bytes_of(fuse_getattr_in{}));
  kernel.send(FUSE_INTERRUPT, 0, bytes_of(in));
  CHECK(kernel.reply_to(in.unique).error == 0);
  in.unique = 123456789;
  kernel.send(FUSE_INTERRUPT, 0, bytes_of(in));
  u.check_serves();
}

TEST_CASE("an unknown or unserved kind of request is ENOSYS") {
  Union u;
  FakeKernel& kernel = u.start();
  const std::uint64_t file = u.nodeid("f");
  for (const std::uint32_t opcode :
       {std::uint32_t{FUSE_GETLK}, std::uint32_t{FUSE_SETLK}, std::uint32_t{FUSE_SETLKW},
        std::uint32_t{FUSE_ACCESS}, std::uint32_t{FUSE_BMAP}, std::uint32_t{FUSE_POLL},
        std::uint32_t{FUSE_SETUPMAPPING}, std::uint32_t{60}, std::uint32_t{9999}, 0xffffffffU}) {
    CAPTURE(opcode);
    CHECK(kernel.ask(opcode, file, std::string(64, '\0')).error == ENOSYS);
  }
  u.check_serves();
}

TEST_CASE("an unknown ioctl is ENOTTY, an fsync of anything succeeds") {
  Union u;
  FakeKernel& kernel = u.start();
  const std::uint64_t file = u.nodeid("f");
  fuse_ioctl_in ioctl{};
  for (const std::uint32_t command : {0U, 0x5401U, 0xffffffffU}) {
    ioctl.cmd = command;
    CHECK(kernel.ask(FUSE_IOCTL, file, bytes_of(ioctl)).error == ENOTTY);
  }
  ioctl.cmd = 0x40086602;  // FS_IOC_SETFLAGS, with too little data
  ioctl.in_size = 1;
  CHECK(kernel.ask(FUSE_IOCTL, file, bytes_of(ioctl) + "x").error == EINVAL);
  for (const char* name : {"f", "d", "s", "p"}) {
    CHECK(kernel.ask(FUSE_FSYNC, u.nodeid(name), bytes_of(fuse_fsync_in{})).error == 0);
  }
  CHECK(kernel.make(kRoot, "g", S_IFREG | 0644).error == 0);
  CHECK(kernel.ask(FUSE_FSYNC, u.nodeid("g"), bytes_of(fuse_fsync_in{})).error == 0);
  CHECK(kernel.ask(FUSE_FSYNCDIR, kRoot, bytes_of(fuse_fsync_in{})).error == 0);
}

TEST_CASE("rename flags that are not layerfs' to serve are EINVAL") {
  Union u;
  FakeKernel& kernel = u.start();
  fuse_rename2_in rename{};
  rename.newdir = kRoot;
  for (const std::uint32_t flags : {4U, 8U, 0x80000000U}) {
    CAPTURE(flags);
    rename.flags = flags;
    CHECK(kernel.ask(FUSE_RENAME2, kRoot, args(rename, "f", "x")).error == EINVAL);
  }
  u.check_serves();
}

TEST_CASE("a message shorter than a request's header ends the session without harm") {
  Union u;
  FakeKernel& kernel = u.start();
  CHECK(kernel.send_raw("short"));
  kernel.hang_up();
  CHECK(kernel.fs().node_usage().nodes == 1);
  CHECK(kernel.fs().finish().ok());
}

TEST_CASE("a mark's name can be neither found nor made through any request") {
  Union u;
  write_file(u.dirs.lower() + "/.wh.gone", "");
  FakeKernel& kernel = u.start();
  for (const std::string name : {".wh.gone", ".wh.f", ".wh..wh..opq"}) {
    CAPTURE(name);
    CHECK(kernel.lookup(kRoot, name).as<fuse_entry_out>().nodeid == 0);
    CHECK(kernel.make(kRoot, name, S_IFREG | 0644).error == EINVAL);
    CHECK(kernel.make(kRoot, name, S_IFDIR | 0755).error == EINVAL);
    CHECK(kernel.create(kRoot, name, O_RDWR).error == EINVAL);
    CHECK(kernel.ask(FUSE_SYMLINK, kRoot, zero_ended(name) + zero_ended("t")).error == EINVAL);
    fuse_rename2_in rename{};
    rename.newdir = kRoot;
    CHECK(kernel.ask(FUSE_RENAME2, kRoot, args(rename, "f", name)).error == EINVAL);
    fuse_link_in link{};
    link.oldnodeid = u.nodeid("f");
    CHECK(kernel.ask(FUSE_LINK, kRoot, args(link, name)).error == EINVAL);
    CHECK(kernel.ask(FUSE_UNLINK, kRoot, zero_ended(name)).error == ENOENT);
  }
  CHECK(names_in(u.dirs.upper()).empty());
}
