// What is negotiated with kernels of different abilities.
#include "fs/fuse_init.h"

#include <fcntl.h>

#include <catch2/catch.hpp>

#include "fs/passthrough.h"
#include "tests/testlib/fake_kernel.h"
#include "tests/testlib/layer_dirs.h"

using namespace layerfs;
using namespace layerfs::testing;

namespace {

constexpr bool kNewLibfuse = FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17);

MountConfig config_of(const LayerDirs& dirs, MountConfig::Io io) {
  MountConfig config = dirs.config();
  config.io = io;
  return config;
}

std::uint64_t flags_of(const fuse_init_out& out) {
  return out.flags | static_cast<std::uint64_t>(out.flags2) << 32U;
}

std::uint64_t negotiated(FakeKernel& kernel, const Ability& ability) {
  return flags_of(kernel.init(ability).as<fuse_init_out>());
}

// Asked for in both modes, of what the oldest kernel has. libfuse 3.14 does not pass on
// that it wants parallel directory operations.
constexpr std::uint64_t kAlways = FUSE_ASYNC_READ | FUSE_DONT_MASK | FUSE_DO_READDIRPLUS |
                                  FUSE_POSIX_ACL | FUSE_CACHE_SYMLINKS | FUSE_EXPLICIT_INVAL_DATA |
                                  (kNewLibfuse ? FUSE_PARALLEL_DIROPS : 0);
constexpr std::uint64_t kNever = FUSE_AUTO_INVAL_DATA | FUSE_READDIRPLUS_AUTO | FUSE_POSIX_LOCKS |
                                 FUSE_FLOCK_LOCKS | FUSE_EXPORT_SUPPORT | FUSE_HANDLE_KILLPRIV;

}  // namespace

TEST_CASE("cached mode gathers writes and truncates by SETATTR, on every kernel") {
  const Ability ability = GENERATE(kLinux_5_6, kLinux_5_11, kLinux_6_1, kLinux_6_9);
  CAPTURE(ability.minor);
  const LayerDirs dirs;
  FakeKernel kernel(config_of(dirs, MountConfig::Io::Cached));
  const std::uint64_t flags = negotiated(kernel, ability);
  CHECK((flags & kAlways) == kAlways);
  CHECK((flags & kNever) == 0);
  CHECK((flags & FUSE_WRITEBACK_CACHE) != 0);
  CHECK((flags & FUSE_ATOMIC_O_TRUNC) == 0);
  CHECK((flags & FUSE_ASYNC_DIO) == 0);
  CHECK((flags & kFusePassthrough) == 0);
}

TEST_CASE("passthrough is taken where kernel and libfuse have it, and excludes writeback") {
  const LayerDirs dirs;
  FakeKernel kernel(config_of(dirs, MountConfig::Io::Passthrough));
  const auto out = kernel.init(kLinux_6_9).as<fuse_init_out>();
  const std::uint64_t flags = flags_of(out);
  CHECK((flags & kAlways) == kAlways);
  CHECK((flags & kNever) == 0);
  CHECK(((flags & kFusePassthrough) != 0) == kNewLibfuse);
  CHECK(((flags & FUSE_WRITEBACK_CACHE) == 0) == kNewLibfuse);
  CHECK(((flags & FUSE_ATOMIC_O_TRUNC) != 0) == kNewLibfuse);
  CHECK(((flags & FUSE_ASYNC_DIO) != 0) == kNewLibfuse);
  // The stack depth of the mount, after the first fields of the 6.1 header: 1 leaves room
  // for one more filesystem on top.
  CHECK(out.unused[0] == (kNewLibfuse ? 1 : 0));
  const IoMode io = kernel.context().settings.io;
  CHECK(io == (kNewLibfuse ? IoMode::Passthrough : IoMode::Cached));
}

TEST_CASE("a kernel without passthrough gets cached mode though the other was asked for") {
  const LayerDirs dirs;
  FakeKernel kernel(config_of(dirs, MountConfig::Io::Passthrough));
  const std::uint64_t flags = negotiated(kernel, kLinux_6_1);
  CHECK((flags & FUSE_WRITEBACK_CACHE) != 0);
  CHECK((flags & FUSE_ATOMIC_O_TRUNC) == 0);
  CHECK(kernel.context().settings.io == IoMode::Cached);
  CHECK_FALSE(kernel.context().passthrough_granted);
}

TEST_CASE("nothing is taken that the kernel did not offer") {
  const auto io = GENERATE(MountConfig::Io::Cached, MountConfig::Io::Passthrough);
  // None, all, and each flag left out of all.
  const int left_out = GENERATE(range(-2, 42));
  const std::uint64_t all = kLinux_6_9.flags | (0xfffffffULL << 32U);
  Ability ability = {40, left_out == -2 ? 0 : all};
  if (left_out >= 0) {
    ability.flags &= ~(1ULL << static_cast<unsigned>(left_out));
  }
  CAPTURE(left_out);
  const LayerDirs dirs;
  FakeKernel kernel(config_of(dirs, io));
  const auto reply = kernel.init(ability);
  REQUIRE(reply.error == 0);
  // The size of writes is negotiated by number, so this flag says nothing any more.
  const std::uint64_t taken = flags_of(reply.as<fuse_init_out>()) & ~std::uint64_t{FUSE_BIG_WRITES};
  CHECK((taken & ~ability.flags) == 0);
  CHECK(kernel.getattr(FUSE_ROOT_ID).error == 0);
}

TEST_CASE("writes of 1 MiB and times to the nanosecond are agreed on") {
  const LayerDirs dirs;
  FakeKernel kernel(dirs.config());
  const auto out = kernel.init(kLinux_6_9).as<fuse_init_out>();
  CHECK(out.major == FUSE_KERNEL_VERSION);
  CHECK(out.max_write == 1U << 20U);
  CHECK(out.max_pages == (1U << 20U) / static_cast<unsigned>(::getpagesize()));
  CHECK(out.time_gran == 1);
  CHECK(out.max_background == 64);
  CHECK(out.congestion_threshold == 48);
}

TEST_CASE("without --acl the kernel is not asked to check ACLs") {
  const LayerDirs dirs;
  MountConfig config = dirs.config();
  config.acl = false;
  FakeKernel kernel(config);
  CHECK((negotiated(kernel, kLinux_6_9) & FUSE_POSIX_ACL) == 0);
}

TEST_CASE("a kernel that understands it is told once not to send OPEN, OPENDIR and FLUSH") {
  const auto io = GENERATE(MountConfig::Io::Cached, MountConfig::Io::Passthrough);
  const bool cached = io == MountConfig::Io::Cached || !kNewLibfuse;
  CAPTURE(cached);
  const LayerDirs dirs;
  write_file(dirs.lower() + "/f", "data");
  FakeKernel kernel(config_of(dirs, io));
  kernel.init(kLinux_6_9);
  const auto file = kernel.lookup(FUSE_ROOT_ID, "f").as<fuse_entry_out>().nodeid;
  // Passthrough needs an OPEN each time, to name the backing file.
  CHECK(kernel.ask(FUSE_OPEN, file, bytes_of(fuse_open_in{})).error == (cached ? ENOSYS : 0));
  CHECK(kernel.ask(FUSE_OPENDIR, FUSE_ROOT_ID, bytes_of(fuse_open_in{})).error == ENOSYS);
  CHECK(kernel.ask(FUSE_FLUSH, file, bytes_of(fuse_flush_in{})).error == ENOSYS);
  CHECK(kernel.read(file, 0, 10).payload == "data");
}

TEST_CASE("a kernel to which ENOSYS is an error gets its OPEN and OPENDIR served") {
  const LayerDirs dirs;
  write_file(dirs.lower() + "/f", "data");
  FakeKernel kernel(dirs.config());
  Ability ability = kLinux_6_9;
  ability.flags &= ~std::uint64_t{FUSE_NO_OPEN_SUPPORT | FUSE_NO_OPENDIR_SUPPORT};
  kernel.init(ability);
  const auto file = kernel.lookup(FUSE_ROOT_ID, "f").as<fuse_entry_out>().nodeid;
  fuse_open_in in{};
  in.flags = O_RDWR;
  const auto opened = kernel.ask(FUSE_OPEN, file, bytes_of(in)).as<fuse_open_out>();
  CHECK((opened.open_flags & FOPEN_KEEP_CACHE) != 0);
  CHECK(kernel.read(file, 0, 10).payload == "data");
  fuse_release_in release{};
  release.fh = opened.fh;
  CHECK(kernel.ask(FUSE_RELEASE, file, bytes_of(release)).error == 0);
  const auto dir =
      kernel.ask(FUSE_OPENDIR, FUSE_ROOT_ID, bytes_of(fuse_open_in{})).as<fuse_open_out>();
  CHECK((dir.open_flags & FOPEN_CACHE_DIR) != 0);
}

TEST_CASE("passthrough asked for by name is refused with the reason where it cannot be had") {
  const LayerDirs dirs;
  FakeKernel kernel(config_of(dirs, MountConfig::Io::Passthrough));
  std::string reason = "3.17 is needed";
  SECTION("a kernel without it") {
    kernel.init(kLinux_6_1);
    reason = kNewLibfuse ? "Linux 6.9" : reason;
  }
  SECTION("a kernel that refuses to register a file") {
    kernel.init(kLinux_6_9);
    reason = kNewLibfuse ? "trying it on the upper gave" : reason;
  }
  const auto checked = check_passthrough(kernel.context());
  REQUIRE_FALSE(checked);
  CAPTURE(checked.error().message);
  CHECK(checked.error().message.find(reason) != std::string::npos);
  CHECK(checked.error().message.find("--io auto") != std::string::npos);
}

TEST_CASE("before INIT nothing is served") {
  const LayerDirs dirs;
  FakeKernel kernel(dirs.config());
  CHECK(kernel.getattr(FUSE_ROOT_ID).error == EIO);
  kernel.init(kLinux_6_9);
  CHECK(kernel.getattr(FUSE_ROOT_ID).error == 0);
}
