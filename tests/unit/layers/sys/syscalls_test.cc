#include "layers/sys/syscalls.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <set>

#include "layers/sys/bulk.h"
#include "layers/sys/quiet_open.h"
#include "tests/testlib/faults.h"
#include "tests/testlib/files.h"
#include "tests/testlib/skip.h"

using namespace layerfs;
using namespace layerfs::testing;

namespace {

struct Dir {
  TempDir dir;
  UniqueFd fd{::open(dir.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  std::string at(const std::string& name) const { return dir.at(name); }
  sys::At of(const char* name) const { return {fd.get(), name}; }
  void link(const std::string& target, const std::string& name) const {
    REQUIRE(::symlink(target.c_str(), at(name).c_str()) == 0);
  }
};

int open_error(int root, const std::string& path, int flags = O_RDONLY) {
  const auto fd = sys::open_beneath(root, path, flags, 0600);
  return fd ? 0 : fd.error().value();
}

bool is_closed_on_exec(int fd) { return (::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0; }

std::set<std::string> read_all(int fd) {
  std::set<std::string> names;
  sys::DirReader reader(fd);
  for (;;) {
    const auto entry = reader.next();
    REQUIRE(entry);
    if (!*entry) {
      return names;
    }
    CHECK(names.emplace((*entry)->name).second);
  }
}

}  // namespace

TEST_CASE("open_beneath: opens what lies below, and the root itself for an empty path") {
  const Dir d;
  make_dirs(d.at("a/b"));
  write_file(d.at("a/b/f"), "data");
  const auto file = sys::open_beneath(d.fd.get(), "a/b/f", O_RDONLY);
  REQUIRE(file);
  char content[8];
  CHECK(::read(file->get(), content, sizeof content) == 4);
  CHECK(is_closed_on_exec(file->get()));
  const auto self = sys::open_beneath(d.fd.get(), "", O_PATH | O_DIRECTORY);
  REQUIRE(self);
  CHECK(sys::stat_at({self->get()})->stx_ino == stat_of(d.dir.path()).st_ino);
  CHECK(open_error(d.fd.get(), "none") == ENOENT);
}

TEST_CASE("open_beneath: refuses every way out of the root") {
  const Dir d;
  make_dirs(d.at("root/sub"));
  write_file(d.at("secret"), "secret");
  const auto root = sys::open_at(d.of("root"), O_PATH | O_DIRECTORY);
  REQUIRE(root);
  const int fd = root->get();
  CHECK(open_error(fd, "..") == EXDEV);
  CHECK(open_error(fd, "../secret") == EXDEV);
  CHECK(open_error(fd, "sub/../../secret") == EXDEV);
  CHECK(open_error(fd, "/etc/passwd") == EXDEV);
  CHECK(open_error(fd, d.at("secret")) == EXDEV);
  CHECK(open_error(fd, "../made", O_RDWR | O_CREAT) == EXDEV);
  CHECK_FALSE(exists(d.at("made")));
}

TEST_CASE("open_beneath: follows no symlink, not even one that stays inside") {
  const Dir d;
  make_dirs(d.at("root/sub"));
  write_file(d.at("root/sub/f"), "data");
  write_file(d.at("secret"), "secret");
  d.link("sub", "root/inside");
  d.link("../secret", "root/out");
  d.link(d.at("secret"), "root/absolute");
  d.link("..", "root/up");
  d.link("loop", "root/loop");
  const auto root = sys::open_at(d.of("root"), O_PATH | O_DIRECTORY);
  REQUIRE(root);
  for (const char* path : {"inside", "inside/f", "out", "absolute", "up/secret", "up", "loop"}) {
    CAPTURE(path);
    CHECK(open_error(root->get(), path) == ELOOP);
  }
}

TEST_CASE("open_beneath: follows no magic link of /proc") {
  const UniqueFd proc(::open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!proc) {
    SKIP_TEST("no /proc here");
  }
  CHECK(open_error(proc.get(), "root") == ELOOP);
  CHECK(open_error(proc.get(), "root/etc") == ELOOP);
  CHECK(open_error(proc.get(), "fd/0") == ELOOP);
  CHECK(open_error(proc.get(), "exe") == ELOOP);
}

TEST_CASE("open_beneath: descends paths longer than PATH_MAX, and refuses there too") {
  const Dir d;
  const std::string name(200, 'd');
  UniqueFd at = *sys::dup_fd(d.fd.get());
  std::string path;
  for (int i = 0; i < 60; ++i) {
    REQUIRE(sys::mkdir_at({at.get(), name.c_str()}, 0700).ok());
    at = *sys::open_at({at.get(), name.c_str()}, O_PATH | O_DIRECTORY);
    path += (i == 0 ? "" : "/") + name;
  }
  REQUIRE(path.size() > 2 * 4096);
  REQUIRE(::symlinkat("..", at.get(), "link") == 0);
  const auto deep = sys::open_beneath(d.fd.get(), path, O_PATH | O_DIRECTORY);
  REQUIRE(deep);
  CHECK(sys::stat_at({deep->get()})->stx_ino == sys::stat_at({at.get()})->stx_ino);
  CHECK(open_error(d.fd.get(), path + "/link/x") == ELOOP);
  CHECK(open_error(d.fd.get(), path + "/none") == ENOENT);
  CHECK(open_error(d.fd.get(), std::string(5000, 'x')) == ENAMETOOLONG);
  CHECK(sys::remove_tree(d.of(name.c_str())).ok());
}

TEST_CASE("open_at: one component, never a symlink; an empty name reopens the object") {
  const Dir d;
  write_file(d.at("f"), "data");
  d.link("f", "link");
  CHECK(sys::open_at(d.of("link"), O_RDONLY).error() == Errno(ELOOP));
  const auto path = sys::open_at(d.of("f"), O_PATH);
  REQUIRE(path);
  const auto file = sys::open_at({path->get()}, O_RDWR);
  REQUIRE(file);
  CHECK(::pwrite(file->get(), "new", 3, 0) == 3);
  CHECK(is_closed_on_exec(file->get()));
  CHECK(is_closed_on_exec(path->get()));
}

TEST_CASE("try_stat_at: absence is a value, anything else that fails an error") {
  const Dir d;
  write_file(d.at("f"), "");
  const auto found = sys::try_stat_at(d.of("f"));
  REQUIRE(found);
  CHECK(found->has_value());
  for (const int error : {ENOENT, ENOTDIR, ENAMETOOLONG}) {
    const Fault fault(Call::Statx, error);
    const auto absent = sys::try_stat_at(d.of("f"));
    REQUIRE(absent);
    CHECK_FALSE(absent->has_value());
  }
  for (const int error : {EIO, EACCES, ESTALE, ELOOP, ENOMEM}) {
    const Fault fault(Call::Statx, error);
    const auto failed = sys::try_stat_at(d.of("f"));
    REQUIRE_FALSE(failed);
    CHECK(failed.error() == Errno(error));
  }
}

TEST_CASE("stat_at: a symlink is not followed") {
  const Dir d;
  write_file(d.at("f"), "data");
  d.link("f", "link");
  CHECK(S_ISLNK(sys::stat_at(d.of("link"))->stx_mode));
  CHECK(sys::device_of(*sys::stat_at(d.of("f"))) == stat_of(d.at("f")).st_dev);
}

TEST_CASE("open_quietly: reading leaves the access time") {
  const Dir d;
  write_file(d.at("f"), "content");
  const struct timespec old[2] = {{1000, 0}, {2000, 0}};
  const auto atime_after_reading = [&](const auto& open) {
    REQUIRE(::utimensat(AT_FDCWD, d.at("f").c_str(), old, 0) == 0);
    const Result<UniqueFd> fd = open();
    REQUIRE(fd);
    char buffer[16];
    REQUIRE(::read(fd->get(), buffer, sizeof buffer) == 7);
    return sys::stat_at(d.of("f"))->stx_atime.tv_sec;
  };
  if (atime_after_reading([&] { return sys::open_at(d.of("f"), O_RDONLY); }) == old[0].tv_sec) {
    SKIP_TEST("the temporary directory is mounted noatime");
  }
  CHECK(atime_after_reading([&] { return sys::open_quietly_at(d.of("f"), O_RDONLY); }) ==
        old[0].tv_sec);
  CHECK(atime_after_reading([&] { return sys::open_quietly_beneath(d.fd.get(), "f", O_RDONLY); }) ==
        old[0].tv_sec);
}

TEST_CASE("open_quietly: what may not be opened so is opened as usual, and no other error hides") {
  const Dir d;
  write_file(d.at("f"), "content");
  for (const int error : {EACCES, EIO, ENOENT, EMFILE}) {
    const Fault fault(Call::Open, error);
    CHECK(sys::open_quietly_at(d.of("f"), O_RDONLY).error() == Errno(error));
  }
  const Fault fault(Call::Open, EPERM);
  const auto fd = sys::open_quietly_at(d.of("f"), O_RDONLY);
  REQUIRE(fd);
  CHECK((::fcntl(fd->get(), F_GETFL) & O_NOATIME) == 0);
}

TEST_CASE("attributes: values of every size are read whole, names listed whole") {
  const Dir d;
  write_file(d.at("f"), "");
  const auto path = sys::open_at(d.of("f"), O_PATH);
  REQUIRE(path);
  // Through the name and through a descriptor of the object itself.
  const sys::At at = GENERATE_COPY(0, 1) == 0 ? d.of("f") : sys::At{path->get()};
  for (const std::size_t size : {0U, 1U, 255U, 256U, 257U, 2000U}) {
    const std::string value(size, 'v');
    REQUIRE(sys::set_xattr(at, "user.a", value).ok());
    const auto read = sys::get_xattr(at, "user.a");
    REQUIRE(read);
    CHECK(*read == value);
  }
  REQUIRE(sys::set_xattr(at, "user.a", "").ok());  // ext4 has 4 KiB for all
  std::vector<std::string> expected = {"user.a"};
  for (int i = 0; i < 20; ++i) {
    expected.push_back("user." + std::string(60, 'n') + std::to_string(i));
    REQUIRE(sys::set_xattr(at, expected.back().c_str(), "").ok());
  }
  auto names = sys::list_xattrs(at);
  REQUIRE(names);
  std::erase_if(*names, [](const std::string& name) { return !name.starts_with("user."); });
  std::sort(names->begin(), names->end());
  std::sort(expected.begin(), expected.end());
  CHECK(*names == expected);
  CHECK(sys::remove_xattr(at, "user.a").ok());
  CHECK(sys::remove_xattr(at, "user.a").ok());
  const auto gone = sys::get_xattr(at, "user.a");
  REQUIRE(gone);
  CHECK_FALSE(gone->has_value());
}

TEST_CASE("attributes: of a directory by its O_PATH descriptor") {
  const Dir d;
  REQUIRE(::mkdir(d.at("sub").c_str(), 0755) == 0);
  const auto path = sys::open_at(d.of("sub"), O_PATH | O_DIRECTORY);
  REQUIRE(path);
  const sys::At at{path->get()};
  REQUIRE(sys::set_xattr(at, "user.a", "v").ok());
  CHECK(sys::get_xattr(d.of("sub"), "user.a")->value_or("") == "v");
  CHECK(sys::get_xattr(at, "user.a")->value_or("") == "v");
  CHECK(sys::list_xattrs(at)->size() == sys::list_xattrs(d.of("sub"))->size());
  CHECK(sys::remove_xattr(at, "user.a").ok());
  CHECK_FALSE(sys::get_xattr(d.of("sub"), "user.a")->has_value());
}

TEST_CASE("attributes: one that is not there is a value, one that cannot be read an error") {
  const Dir d;
  write_file(d.at("f"), "");
  for (const int error : {ENODATA, EOPNOTSUPP}) {
    const Fault fault(Call::GetXattr, error);
    const auto absent = sys::get_xattr(d.of("f"), "user.a");
    REQUIRE(absent);
    CHECK_FALSE(absent->has_value());
  }
  for (const int error : {EIO, EACCES, EPERM, ENOENT, ENOSYS}) {
    const Fault fault(Call::GetXattr, error);
    CHECK_FALSE(sys::get_xattr(d.of("f"), "user.a").ok());
  }
  {
    const Fault fault(Call::ListXattr, EOPNOTSUPP);
    const auto none = sys::list_xattrs(d.of("f"));
    REQUIRE(none);
    CHECK(none->empty());
  }
  for (const int error : {EIO, EACCES, ENODATA}) {
    const Fault fault(Call::ListXattr, error);
    CHECK_FALSE(sys::list_xattrs(d.of("f")).ok());
  }
}

TEST_CASE("attributes: those of a symlink are its own, not its target's") {
  if (::geteuid() != 0) {
    SKIP_TEST("needs root: symlinks take trusted attributes only");
  }
  const Dir d;
  write_file(d.at("f"), "");
  d.link("f", "link");
  REQUIRE(sys::set_xattr(d.of("link"), "trusted.a", "v").ok());
  CHECK(sys::get_xattr(d.of("link"), "trusted.a")->has_value());
  CHECK_FALSE(sys::get_xattr(d.of("f"), "trusted.a")->has_value());
}

TEST_CASE("names of 255 bytes are taken by every call that goes through /proc") {
  const Dir d;
  const std::string name(255, 'n');
  write_file(d.at(name), "");
  CHECK(sys::set_xattr(d.of(name.c_str()), "user.a", "v").ok());
  CHECK(sys::get_xattr(d.of(name.c_str()), "user.a")->has_value());
  CHECK(sys::list_xattrs(d.of(name.c_str())).ok());
  CHECK(sys::chmod_at(d.of(name.c_str()), 0600).ok());
  const std::string longer(400, 'n');
  CHECK(sys::get_xattr(d.of(longer.c_str()), "user.a").error() == Errno(ENAMETOOLONG));
}

TEST_CASE("chmod_at and utimens_at: a symlink is not followed, an O_PATH object is changed") {
  const Dir d;
  write_file(d.at("f"), "");
  REQUIRE(::chmod(d.at("f").c_str(), 0640) == 0);
  d.link("f", "link");
  CHECK(sys::chmod_at(d.of("link"), 0777).error() == Errno(EOPNOTSUPP));
  CHECK((stat_of(d.at("f")).st_mode & 07777) == 0640);
  const timespec times[2] = {{1, 2}, {3, 4}};
  CHECK(sys::utimens_at(d.of("link"), times).ok());
  CHECK(stat_of(d.at("link")).st_mtim.tv_sec == 3);
  CHECK(stat_of(d.at("f")).st_mtim.tv_sec != 3);
  const auto path = sys::open_at(d.of("f"), O_PATH);
  REQUIRE(path);
  CHECK(sys::chmod_at({path->get()}, 0600).ok());
  CHECK(sys::utimens_at({path->get()}, times).ok());
  CHECK((stat_of(d.at("f")).st_mode & 07777) == 0600);
  CHECK(stat_of(d.at("f")).st_mtim.tv_nsec == 4);
}

TEST_CASE("link_at: an open file without a name gets one") {
  const Dir d;
  const UniqueFd nameless(::open(d.dir.path().c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (!nameless) {
    SKIP_TEST("no O_TMPFILE on this filesystem");
  }
  CHECK(sys::link_at({nameless.get()}, d.of("f")).ok());
  CHECK(exists(d.at("f")));
}

TEST_CASE("readlink_at: a target of 4095 bytes is read whole") {
  const Dir d;
  const std::string target(4000, 't');
  d.link(target, "link");
  const auto read = sys::readlink_at(d.of("link"));
  REQUIRE(read);
  CHECK(*read == target);
}

TEST_CASE("KeptTimes: a directory has its times back after an entry came") {
  const Dir d;
  const timespec times[2] = {{1000, 1}, {2000, 2}};
  REQUIRE(sys::utimens_at({d.fd.get()}, times).ok());
  const auto kept = sys::KeptTimes::of(d.fd.get());
  REQUIRE(kept);
  write_file(d.at("f"), "");
  CHECK(stat_of(d.dir.path()).st_mtim.tv_sec != 2000);
  CHECK(kept->restore().ok());
  CHECK(stat_of(d.dir.path()).st_mtim.tv_sec == 2000);
  CHECK(stat_of(d.dir.path()).st_mtim.tv_nsec == 2);
  CHECK(stat_of(d.dir.path()).st_atim.tv_sec == 1000);
}

TEST_CASE("try_lock_exclusive: one holder at a time, until it closes") {
  const Dir d;
  auto first = sys::open_at(d.of("."), O_RDONLY | O_DIRECTORY);
  const auto second = sys::open_at(d.of("."), O_RDONLY | O_DIRECTORY);
  CHECK(*sys::try_lock_exclusive(first->get()));
  CHECK_FALSE(*sys::try_lock_exclusive(second->get()));
  first->reset();
  CHECK(*sys::try_lock_exclusive(second->get()));
}

TEST_CASE("DirReader: every name once, . and .. left out, also of more than one buffer") {
  const Dir d;
  std::set<std::string> expected;
  const int count = GENERATE(0, 1, 3000);
  for (int i = 0; i < count; ++i) {
    const std::string name = "entry-with-a-name-of-some-length-" + std::to_string(i);
    REQUIRE(sys::mknod_at(d.of(name.c_str()), S_IFREG | 0600, 0).ok());
    expected.insert(name);
  }
  CHECK(read_all(d.fd.get()) == expected);
}

TEST_CASE("DirReader: a failing read is an error, not the end of the directory") {
  const Dir d;
  write_file(d.at("f"), "");
  const Fault fault(Call::ReadDirectory, EIO);
  sys::DirReader reader(d.fd.get());
  CHECK(reader.next().error() == Errno(EIO));
}

TEST_CASE("remove_tree: a tree goes, what its symlinks lead to stays") {
  const Dir d;
  make_dirs(d.at("tree/a/b"));
  make_dirs(d.at("kept/sub"));
  write_file(d.at("kept/f"), "kept");
  write_file(d.at("tree/a/b/f"), "");
  REQUIRE(::mkfifo(d.at("tree/fifo").c_str(), 0600) == 0);
  d.link("../kept", "tree/link");
  d.link(d.at("kept"), "tree/a/link");
  CHECK(sys::remove_tree(d.of("tree")).ok());
  CHECK(names_in(d.dir.path()) == std::vector<std::string>{"kept"});
  CHECK(read_file(d.at("kept/f")) == "kept");
  CHECK(sys::remove_tree(d.of("none")).error() == Errno(ENOENT));
}

TEST_CASE("remove_tree: a tree deeper than there are descriptors goes") {
  const Dir d;
  constexpr int kLevels = 300;
  auto below = sys::open_path(d.dir.path(), O_PATH | O_DIRECTORY);
  for (int i = 0; i < kLevels && below; ++i) {
    for (const char* name : {"d", "#removed-1"}) {
      REQUIRE(sys::mkdir_at({below->get(), name}, 0700).ok());
    }
    below = sys::open_at({below->get(), "d"}, O_PATH | O_DIRECTORY);
  }
  REQUIRE(below);
  struct rlimit before {};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  const struct rlimit few = {kLevels / 2, before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &few) == 0);
  const auto removed = sys::remove_tree(d.of("d"));
  CHECK(::setrlimit(RLIMIT_NOFILE, &before) == 0);
  CHECK(removed.ok());
  CHECK(names_in(d.dir.path()) == std::vector<std::string>{"#removed-1"});
}

TEST_CASE("write_fully, names_in: all of the bytes, all of the names") {
  const Dir d;
  write_file(d.at("f"), "0123456789");
  const auto fd = sys::open_path(d.at("f"), O_RDWR);
  REQUIRE(fd);
  CHECK(sys::write_fully(fd->get(), "ab", 9).ok());
  CHECK(read_file(d.at("f")) == "012345678ab");
  CHECK(sys::write_fully(-1, "x", 0).error() == Errno(EBADF));
  make_dirs(d.at("sub"));
  const auto dir = sys::open_path(d.dir.path(), O_PATH | O_DIRECTORY);
  auto names = sys::names_in(dir->get());
  REQUIRE(names);
  std::sort(names->begin(), names->end());
  CHECK(*names == std::vector<std::string>{"f", "sub"});
  CHECK(sys::for_each_entry(dir->get(), [](const sys::DirEntry& /*entry*/) {
          return Status(Errno(EINTR));
        }).error() == Errno(EINTR));
}

TEST_CASE("rename_at: its flags are renameat2's") {
  const Dir d;
  write_file(d.at("a"), "a");
  write_file(d.at("b"), "b");
  CHECK(sys::rename_at(d.of("a"), d.of("b"), RENAME_NOREPLACE).error() == Errno(EEXIST));
  CHECK(sys::rename_at(d.of("a"), d.of("b"), RENAME_EXCHANGE).ok());
  CHECK(read_file(d.at("a")) == "b");
  CHECK(sys::rename_at(d.of("a"), d.of("b")).ok());
  CHECK(names_in(d.dir.path()) == std::vector<std::string>{"b"});
}

TEST_CASE(
    "clone_tree_read_only: the clone can be read and not written, and its reading leaves no "
    "trace") {
  const Dir d;
  write_file(d.at("f"), "data");
  const timespec times[2] = {{1000, 0}, {2000, 0}};
  REQUIRE(sys::utimens_at(d.of("f"), times).ok());
  const auto clone = sys::clone_tree_read_only(d.fd.get());
  if (!clone && is_not_permitted(clone.error())) {
    SKIP_TEST("needs root to clone mounts");
  }
  REQUIRE(clone);
  CHECK(sys::open_at({clone->get(), "f"}, O_RDWR).error() == Errno(EROFS));
  CHECK(sys::mkdir_at({clone->get(), "d"}, 0700).error() == Errno(EROFS));
  CHECK(sys::unlink_at({clone->get(), "f"}, sys::UnlinkKind::File).error() == Errno(EROFS));
  CHECK(sys::set_xattr({clone->get(), "f"}, "user.a", "v").error() == Errno(EROFS));
  const auto file = sys::open_at({clone->get(), "f"}, O_RDONLY);
  REQUIRE(file);
  char content[8];
  CHECK(::read(file->get(), content, sizeof content) == 4);
  CHECK(stat_of(d.at("f")).st_atim.tv_sec == 1000);
}

TEST_CASE("check_writable_directory: says if names can be added, by the effective user") {
  const Dir d;
  CHECK(sys::check_writable_directory(d.fd.get()).ok());
  if (::geteuid() != 0) {
    REQUIRE(::chmod(d.dir.path().c_str(), 0500) == 0);
    CHECK(sys::check_writable_directory(d.fd.get()).error() == Errno(EACCES));
    REQUIRE(::chmod(d.dir.path().c_str(), 0700) == 0);
  }
}

TEST_CASE("fs_identity: objects of one filesystem have one, and it has a type") {
  const Dir d;
  make_dirs(d.at("sub"));
  const auto sub = sys::open_at(d.of("sub"), O_PATH | O_DIRECTORY);
  REQUIRE(sub);
  const auto a = sys::fs_identity(d.fd.get());
  const auto b = sys::fs_identity(sub->get());
  REQUIRE(a);
  REQUIRE(b);
  CHECK(a->fsid == b->fsid);
  CHECK(a->type == b->type);
  CHECK(a->type != 0);
}

TEST_CASE("UniqueFd: closes once, moves its descriptor, gives it away") {
  const auto is_open = [](int fd) { return ::fcntl(fd, F_GETFD) >= 0; };
  UniqueFd a(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const int number = a.get();
  UniqueFd b = std::move(a);
  CHECK_FALSE(a);
  CHECK(b.get() == number);
  b = UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  CHECK_FALSE(is_open(number));
  const int given = b.release();
  CHECK(is_open(given));
  ::close(given);
}
