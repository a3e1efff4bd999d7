#include "layers/writable_layer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>

#include "layers/override_stat.h"
#include "tests/testlib/faults.h"
#include "tests/testlib/layer_dirs.h"
#include "tests/testlib/skip.h"

using namespace layerfs;
using namespace layerfs::testing;

namespace {

enum class Owners { Real, InAttributes };

// An upper layer, and the directory of a lower with objects to copy.
struct Fixture {
  LayerDirs dirs;
  std::unique_ptr<WritableLayer> layer;
  UniqueFd lower{::open(dirs.lower().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)};
  UniqueFd upper{::open(dirs.upper().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)};

  explicit Fixture(Owners owners = Owners::Real, WhiteoutForm form = WhiteoutForm::Overlay,
                   Durability durability = Durability::Synced) {
    StackOptions options;
    options.lowers = {dirs.lower()};
    options.upper = dirs.upper();
    options.mountpoint = dirs.mountpoint();
    const auto stack = LayerStack::open(options);
    REQUIRE(stack);
    auto work = Workdir::open(dirs.work(), stack->at(0), durability);
    REQUIRE(work);
    layer = std::make_unique<WritableLayer>(
        LayerIndex{0}, std::move(*work), MarkWriter(form, XattrNamespace::User, true),
        owners == Owners::InAttributes ? OverrideForm::Containers : OverrideForm::None, durability);
  }
  // A copy of the lower object `name` with all its content.
  CopySource source(const char* name, int data_fd = -1) const {
    const auto st = sys::stat_at({lower.get(), name});
    REQUIRE(st);
    CopySource source{{lower.get(), name}, *st, data_fd, CopyContent::All,
                      st->stx_size,        {},  {},      OverrideForm::None};
    return source;
  }
  UniqueFd data(const char* name) const {
    return UniqueFd(::open((dirs.lower() + "/" + name).c_str(), O_RDONLY | O_CLOEXEC));
  }
  // The staged object under a name where paths reach it.
  std::string publish(Staged& staged, bool is_directory = false) const {
    REQUIRE(layer->publish(staged.entry, is_directory, upper.get(), "o", false).ok());
    return dirs.upper() + "/o";
  }
  std::vector<std::string> work() const { return names_in(dirs.work() + "/work"); }
};

bool is_root() { return ::geteuid() == 0; }

std::optional<std::string> xattr(const std::string& path, const char* name) {
  char value[256];
  const ssize_t n = ::lgetxattr(path.c_str(), name, value, sizeof value);
  return n < 0 ? std::nullopt : std::optional(std::string(value, static_cast<std::size_t>(n)));
}

}  // namespace

TEST_CASE("stage_new: an object of each type has its owner and mode before it has a name",
          "[S-04]") {
  const Fixture f;
  const mode_t type = GENERATE(as<mode_t>{}, S_IFREG, S_IFDIR, S_IFIFO, S_IFSOCK, S_IFBLK);
  if (!is_root()) {
    SKIP_TEST("needs root to set owners and make devices");
  }
  const mode_t mode = type | 07751;
  auto staged = f.layer->stage_new({{1234, 5678, mode, makedev(7, 200)}, {}, {}, {}});
  REQUIRE(staged);
  CHECK(names_in(f.dirs.upper()).empty());
  CHECK((staged->fd.get() >= 0) == S_ISREG(mode));
  const struct stat st = stat_of(f.publish(*staged, S_ISDIR(mode)));
  CHECK(st.st_mode == mode);
  CHECK(st.st_uid == 1234);
  CHECK(st.st_gid == 5678);
  CHECK((type != S_IFBLK || st.st_rdev == makedev(7, 200)));
  CHECK(f.work().empty());
}

TEST_CASE("stage_new: a symlink has its target and owner") {
  const Fixture f;
  const uid_t uid = is_root() ? 1234 : ::geteuid();
  auto staged = f.layer->stage_new({{uid, ::getegid(), S_IFLNK | 0777, 0}, "../t", {}, {}});
  REQUIRE(staged);
  const std::string path = f.publish(*staged);
  char target[16];
  CHECK(::readlink(path.c_str(), target, sizeof target) == 4);
  CHECK(stat_of(path).st_uid == uid);
}

TEST_CASE("stage_new: what is not published leaves nothing behind") {
  const Fixture f;
  for (const mode_t type : {S_IFREG, S_IFDIR, S_IFIFO}) {
    const auto staged =
        f.layer->stage_new({{::geteuid(), ::getegid(), type | 0600, 0}, {}, {}, {}});
    REQUIRE(staged);
    CHECK(f.work().size() == 1);
  }
  CHECK(f.work().empty());
}

TEST_CASE("stage_new: with owners in attributes nothing privileged is made, all is recorded") {
  const Fixture f(Owners::InAttributes);
  const mode_t type = GENERATE(as<mode_t>{}, S_IFREG, S_IFDIR, S_IFIFO, S_IFSOCK, S_IFBLK, S_IFCHR);
  const mode_t mode = type | 04111;
  auto staged = f.layer->stage_new({{1234, 5678, mode, makedev(7, 200)}, {}, {}, {}});
  REQUIRE(staged);
  const std::string path = f.publish(*staged, S_ISDIR(mode));
  const struct stat st = stat_of(path);
  CHECK(st.st_uid == ::geteuid());
  CHECK((st.st_mode & S_IFMT) == (S_ISDIR(mode) ? S_IFDIR : S_IFREG));
  // The daemon can use it whatever its shown mode; no set-id bit is real.
  CHECK((st.st_mode & 07777) == 0711);
  const auto value = xattr(path, override_stat_xattr(OverrideForm::Containers));
  REQUIRE(value);
  const auto parsed = parse_override_stat(*value);
  REQUIRE(parsed);
  const bool device = S_ISBLK(mode) || S_ISCHR(mode);
  CHECK(*parsed == OverrideStat{1234, 5678, mode, device ? makedev(7, 200) : 0});
}

TEST_CASE("stage_copy: a file's copy has its content, owner, mode, times and attributes") {
  const Fixture f;
  const std::string path = f.dirs.lower() + "/f";
  write_file(path, "content");
  if (is_root()) {
    REQUIRE(::chown(path.c_str(), 1234, 5678) == 0);
    // VFS_CAP_REVISION_2, cap_net_raw permitted and effective.
    const unsigned char capability[20] = {1, 0, 0, 2, 0, 0x20};
    REQUIRE(::setxattr(path.c_str(), "security.capability", capability, sizeof capability, 0) == 0);
  }
  REQUIRE(::chmod(path.c_str(), 06751) == 0);
  REQUIRE(::setxattr(path.c_str(), "user.note", "value", 5, 0) == 0);
  REQUIRE(::setxattr(path.c_str(), "user.overlay.opaque", "y", 1, 0) == 0);
  REQUIRE(::setxattr(path.c_str(), "user.containers.override_stat", "1:1:644", 7, 0) == 0);
  const timespec times[2] = {{1000000001, 987654321}, {1000000002, 123456789}};
  REQUIRE(::utimensat(AT_FDCWD, path.c_str(), times, 0) == 0);
  const struct stat before = stat_of(path);

  const UniqueFd data = f.data("f");
  auto staged = f.layer->stage_copy(f.source("f", data.get()));
  REQUIRE(staged);
  CHECK(staged->bytes_copied <= 7);
  const std::string copy = f.publish(*staged);
  const struct stat after = stat_of(copy);
  CHECK(read_file(copy) == "content");
  CHECK(after.st_mode == before.st_mode);
  CHECK(after.st_uid == before.st_uid);
  CHECK(after.st_gid == before.st_gid);
  CHECK(after.st_mtim.tv_sec == before.st_mtim.tv_sec);
  CHECK(after.st_mtim.tv_nsec == before.st_mtim.tv_nsec);
  CHECK(xattr(copy, "user.note") == "value");
  CHECK(xattr(copy, "security.capability") == xattr(path, "security.capability"));
  // What says something about the lower layer would say it about the upper.
  CHECK_FALSE(xattr(copy, "user.overlay.opaque"));
  CHECK_FALSE(xattr(copy, "user.containers.override_stat"));
}

TEST_CASE("stage_copy: metadata only copies no data, and is marked as such") {
  const Fixture f;
  write_file(f.dirs.lower() + "/f", std::string(100000, 'x'));
  CopySource source = f.source("f");
  source.content = CopyContent::None;
  auto staged = f.layer->stage_copy(source);
  REQUIRE(staged);
  CHECK(staged->bytes_copied == 0);
  const std::string copy = f.publish(*staged);
  CHECK(stat_of(copy).st_size == 100000);
  CHECK(stat_of(copy).st_blocks < 16);
  CHECK(xattr(copy, "user.overlay.metacopy"));
}

TEST_CASE("stage_copy: for a truncation only what stays is copied") {
  const Fixture f;
  write_file(f.dirs.lower() + "/f", "0123456789");
  const UniqueFd data = f.data("f");
  CopySource source = f.source("f", data.get());
  source.size = GENERATE(std::uint64_t{0}, std::uint64_t{4});
  auto staged = f.layer->stage_copy(source);
  REQUIRE(staged);
  CHECK(read_file(f.publish(*staged)) == std::string("0123456789").substr(0, source.size));
}

TEST_CASE("stage_copy: a source shorter than it said is EIO, and nothing stays behind") {
  const Fixture f;
  write_file(f.dirs.lower() + "/f", "short");
  const UniqueFd data = f.data("f");
  CopySource source = f.source("f", data.get());
  source.size = 1000;
  const auto staged = f.layer->stage_copy(source);
  REQUIRE_FALSE(staged);
  CHECK(staged.error() == Errno(EIO));
  CHECK(f.work().empty());
}

TEST_CASE("stage_copy: an attribute that cannot be read or written fails it, and leaves nothing") {
  const Fixture f;
  write_file(f.dirs.lower() + "/f", "content");
  REQUIRE(::setxattr((f.dirs.lower() + "/f").c_str(), "user.note", "value", 5, 0) == 0);
  const UniqueFd data = f.data("f");
  const CopySource source = f.source("f", data.get());
  for (const Call call : {Call::ListXattr, Call::GetXattr, Call::SetXattr, Call::Fsync}) {
    const int error = GENERATE(EIO, ENOSPC, EPERM, EOPNOTSUPP);
    CAPTURE(to_string(call), error);
    // Of listxattr EOPNOTSUPP says that there are none.
    if (call == Call::ListXattr && error == EOPNOTSUPP) {
      continue;
    }
    const std::size_t failed = fail_each(
        call, error, [&] { return f.layer->stage_copy(source); },
        [&](const auto& staged) { REQUIRE_FALSE(staged.ok()); });
    CHECK(failed == 1);
    CHECK(f.work().empty());
  }
}

TEST_CASE("stage_copy: data is on disk before there is a name to find it by, unless volatile",
          "[S-04]") {
  const Durability durability = GENERATE(Durability::Synced, Durability::Volatile);
  const Fixture f(Owners::Real, WhiteoutForm::Overlay, durability);
  write_file(f.dirs.lower() + "/f", "content");
  const UniqueFd data = f.data("f");
  const CopySource source = f.source("f", data.get());
  std::vector<Call> calls;
  {
    const CallTrace trace;
    auto staged = f.layer->stage_copy(source);
    REQUIRE(staged);
    f.publish(*staged);
    calls = trace.calls();
  }
  const auto synced = std::find(calls.begin(), calls.end(), Call::Fsync);
  const auto renamed = std::find(calls.begin(), calls.end(), Call::Rename);
  REQUIRE(renamed != calls.end());
  if (durability == Durability::Volatile) {
    CHECK(synced == calls.end());
  } else {
    CHECK(synced < renamed);
    // Nothing is written to it any more.
    CHECK(std::find(synced, renamed, Call::SetXattr) == renamed);
  }
}

TEST_CASE("publish: a name that is there is not replaced") {
  const Fixture f;
  write_file(f.dirs.upper() + "/o", "there");
  auto staged = f.layer->stage_new({{::geteuid(), ::getegid(), S_IFREG | 0600, 0}, {}, {}, {}});
  REQUIRE(staged);
  const auto published = f.layer->publish(staged->entry, false, f.upper.get(), "o", false);
  REQUIRE_FALSE(published);
  CHECK(published.error() == Errno(EEXIST));
  CHECK(read_file(f.dirs.upper() + "/o") == "there");
}

TEST_CASE("publish: a whiteout of either form gives way to a file or a directory in one step") {
  const WhiteoutForm form = GENERATE(WhiteoutForm::Overlay, WhiteoutForm::DotWh);
  const mode_t type = GENERATE(as<mode_t>{}, S_IFREG, S_IFDIR);
  Fixture f(Owners::Real, form);
  REQUIRE(f.layer->marks().make_whiteout(f.upper.get(), "o").ok());
  {
    auto staged = f.layer->stage_new({{::geteuid(), ::getegid(), type | 0700, 0}, {}, {}, {}});
    REQUIRE(staged);
    const CallTrace trace;
    REQUIRE(f.layer->publish(staged->entry, S_ISDIR(type), f.upper.get(), "o", true).ok());
    const auto calls = trace.calls();
    CHECK(std::count(calls.begin(), calls.end(), Call::Rename) == 1);
  }
  CHECK(names_in(f.dirs.upper()) == std::vector<std::string>{"o"});
  CHECK((stat_of(f.dirs.upper() + "/o").st_mode & S_IFMT) == type);
  CHECK(f.work().empty());
}

TEST_CASE("publish: where the rename fails the whiteout still hides the name") {
  const WhiteoutForm form = GENERATE(WhiteoutForm::Overlay, WhiteoutForm::DotWh);
  const mode_t type = GENERATE(as<mode_t>{}, S_IFREG, S_IFDIR);
  Fixture f(Owners::Real, form);
  REQUIRE(f.layer->marks().make_whiteout(f.upper.get(), "o").ok());
  const auto before = names_in(f.dirs.upper());
  {
    auto staged = f.layer->stage_new({{::geteuid(), ::getegid(), type | 0700, 0}, {}, {}, {}});
    REQUIRE(staged);
    const Fault fault(Call::Rename, ENOSPC);
    const auto published = f.layer->publish(staged->entry, S_ISDIR(type), f.upper.get(), "o", true);
    REQUIRE_FALSE(published);
    CHECK(published.error() == Errno(ENOSPC));
  }
  CHECK(names_in(f.dirs.upper()) == before);
  CHECK((form == WhiteoutForm::DotWh || S_ISCHR(stat_of(f.dirs.upper() + "/o").st_mode)));
  CHECK(f.work().empty());
}

TEST_CASE("set_owner and set_mode: with owners in attributes both are kept there") {
  const Fixture f(Owners::InAttributes);
  auto staged = f.layer->stage_new({{0, 0, S_IFREG | 06755, 0}, {}, {}, {}});
  REQUIRE(staged);
  const std::string path = f.publish(*staged);
  const sys::At at{f.upper.get(), "o"};
  // Which set-id bits a chown leaves is decided by who asks, not here.
  REQUIRE(f.layer->set_owner(at, {0, 0, S_IFREG | 06755, 0}, 1000, static_cast<gid_t>(-1)).ok());
  CHECK(xattr(path, override_stat_xattr(OverrideForm::Containers)) == "1000:0:6755:file");
  REQUIRE(f.layer->set_mode(at, {1000, 0, S_IFREG | 06755, 0}, 0444).ok());
  CHECK(xattr(path, override_stat_xattr(OverrideForm::Containers)) == "1000:0:0444:file");
  CHECK((stat_of(path).st_mode & 07777) == 0644);
}
