#include "layers/workdir.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <optional>
#include <set>
#include <thread>

#include "tests/testlib/faults.h"
#include "tests/testlib/layer_dirs.h"
#include "tests/testlib/skip.h"

using namespace layerfs;
using namespace layerfs::testing;
using Catch::Matchers::Contains;

namespace {

struct Fixture {
  LayerDirs dirs;
  LayerStack stack = open();

  LayerStack open() const {
    StackOptions options;
    options.lowers = {dirs.lower()};
    options.upper = dirs.upper();
    options.init = dirs.init();
    options.mountpoint = dirs.mountpoint();
    auto opened = LayerStack::open(options);
    REQUIRE(opened);
    return std::move(*opened);
  }
  Result<Workdir, Failure> work(Durability durability = Durability::Synced) const {
    return Workdir::open(dirs.work(), stack.at(0), durability);
  }
  std::string refusal(const std::string& path) const {
    const auto work = Workdir::open(path, stack.at(0), Durability::Synced);
    REQUIRE_FALSE(work.ok());
    CHECK_THAT(work.error().message, !Contains("\n"));
    return work.error().message;
  }
};

}  // namespace

TEST_CASE("work directory: it is made where its parent exists, and holds work and the index") {
  const Fixture f;
  const auto work = f.work();
  REQUIRE(work);
  CHECK(names_in(f.dirs.work()) == std::vector<std::string>{"layerfs.index", "work"});
  CHECK((stat_of(f.dirs.work()).st_mode & 07777) == 0700);
  CHECK(sys::stat_at({work->fd()})->stx_ino == stat_of(f.dirs.work() + "/work").st_ino);
  CHECK(sys::stat_at({work->index_fd()})->stx_ino ==
        stat_of(f.dirs.work() + "/layerfs.index").st_ino);
  CHECK_THAT(f.refusal(f.dirs.base() + "/none/work"), Contains("--work"));
}

TEST_CASE("work directory: what a crashed mount left in work is swept, the index is kept") {
  const Fixture f;
  make_dirs(f.dirs.work() + "/work/#left/deep/er");
  write_file(f.dirs.work() + "/work/#left/deep/er/f", "");
  write_file(f.dirs.work() + "/work/#file", "");
  make_dirs(f.dirs.work() + "/layerfs.index");
  write_file(f.dirs.work() + "/layerfs.index/entry", "kept");
  // What a leftover points to is not the leftover.
  REQUIRE(::symlink(f.dirs.upper().c_str(), (f.dirs.work() + "/work/link").c_str()) == 0);
  write_file(f.dirs.upper() + "/f", "kept");
  REQUIRE(f.work());
  CHECK(names_in(f.dirs.work() + "/work").empty());
  CHECK(read_file(f.dirs.work() + "/layerfs.index/entry") == "kept");
  CHECK(read_file(f.dirs.upper() + "/f") == "kept");
}

TEST_CASE("work directory: a default ACL that it has or gets is not that of what is built in it") {
  const Fixture f;
  make_dirs(f.dirs.work() + "/work");
  // user::rwx, group::rwx, other::rwx (linux/posix_acl_xattr.h)
  const std::string acl(
      "\2\0\0\0\1\0\7\0\xff\xff\xff\xff\4\0\7\0\xff\xff\xff\xff\40\0\7\0\xff\xff\xff\xff", 28);
  const char* name = "system.posix_acl_default";
  for (const std::string& dir : {f.dirs.work(), f.dirs.work() + "/work"}) {
    if (::setxattr(dir.c_str(), name, acl.data(), acl.size(), 0) < 0) {
      SKIP_TEST("no POSIX ACLs here");
    }
  }
  REQUIRE(f.work());
  CHECK(::getxattr((f.dirs.work() + "/work").c_str(), name, nullptr, 0) < 0);
  CHECK(::getxattr(f.dirs.work().c_str(), name, nullptr, 0) > 0);
}

TEST_CASE("work directory: it and its layer serve one mount at a time") {
  const Fixture f;
  {
    const auto first = f.work();
    REQUIRE(first);
    CHECK_THAT(f.refusal(f.dirs.work()), Contains("in use by another mount"));
    // The same upper with another work directory.
    CHECK_THAT(f.refusal(f.dirs.base() + "/w2"), Contains("in use by another mount"));
    // The same work directory with another layer.
    const auto other = Workdir::open(f.dirs.work(), f.stack.at(1), Durability::Synced);
    REQUIRE_FALSE(other);
    CHECK_THAT(other.error().message, Contains("in use by another mount"));
  }
  CHECK(f.work().ok());
}

TEST_CASE("work directory: what a mount that is just ending still holds is waited for") {
  const Fixture f;
  std::optional<Workdir> ending;
  {
    auto first = f.work();
    REQUIRE(first);
    ending.emplace(std::move(*first));
  }
  std::thread daemon([&ending] {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    ending.reset();
  });
  CHECK(f.work().ok());
  daemon.join();
}

TEST_CASE("work directory: one in, around or equal to its layer is refused") {
  const Fixture f;
  make_dirs(f.dirs.upper() + "/sub");
  CHECK_THAT(f.refusal(f.dirs.upper() + "/sub/work"), Contains("overlap"));
  CHECK_THAT(f.refusal(f.dirs.upper()), Contains("overlap"));
  CHECK_THAT(f.refusal(f.dirs.base()), Contains("overlap"));
}

TEST_CASE("work directory: one on another filesystem than its layer is refused") {
  const Fixture f;
  const std::string other = make_temp_dir("/dev/shm");
  if (stat_of(other).st_dev == stat_of(f.dirs.upper()).st_dev) {
    ::rmdir(other.c_str());
    SKIP_TEST("/var/tmp and /dev/shm are one filesystem here");
  }
  CHECK_THAT(f.refusal(other), Contains("same filesystem"));
  for (const char* dir : {"/work", "/layerfs.index", ""}) {
    ::rmdir((other + dir).c_str());
  }
}

TEST_CASE("work directory: an upper that takes no rename is refused, before anything is written") {
  const Fixture f;
  const int error = GENERATE(EROFS, EIO);
  const Fault fault(Call::Rename, error);
  const auto work = f.work();
  REQUIRE_FALSE(work);
  CHECK_THAT(work.error().message, Contains(describe(Errno(error))));
  CHECK(names_in(f.dirs.upper()).empty());
}

TEST_CASE("work directory: after a volatile mount that did not end cleanly the upper is refused") {
  const Fixture f;
  {
    auto work = f.work(Durability::Volatile);
    REQUIRE(work);
    CHECK(exists(f.dirs.work() + "/work/incompat/volatile"));
  }
  CHECK_THAT(f.refusal(f.dirs.work()), Contains("did not end cleanly"));
  // The remedy that the message names.
  REQUIRE(::rmdir((f.dirs.work() + "/work/incompat/volatile").c_str()) == 0);
  auto work = f.work(Durability::Volatile);
  REQUIRE(work);
  CHECK(work->finish().ok());
  CHECK(names_in(f.dirs.work() + "/work").empty());
}

TEST_CASE("work directory: an upper of a volatile mount that did not end cleanly can be accepted") {
  const Fixture f;
  { REQUIRE(f.work(Durability::Volatile)); }
  REQUIRE_FALSE(f.work());
  {
    const auto work =
        Workdir::open(f.dirs.work(), f.stack.at(0), Durability::Volatile, nullptr, Unclean::Accept);
    REQUIRE(work);
    CHECK(exists(f.dirs.work() + "/work/incompat/volatile"));
  }
  REQUIRE(
      Workdir::open(f.dirs.work(), f.stack.at(0), Durability::Synced, nullptr, Unclean::Accept));
  CHECK(f.work().ok());
}

TEST_CASE("work directory: an unreadable volatile mark is refused, not taken for a clean end") {
  const Fixture f;
  { REQUIRE(f.work()); }
  for (const Call call : {Call::Open, Call::Statx, Call::ReadDirectory}) {
    CAPTURE(to_string(call));
    const std::size_t failed = fail_each(
        call, EIO, [&] { return f.work(); }, [](const auto& work) { REQUIRE_FALSE(work.ok()); });
    CHECK(failed > 0);
  }
  CHECK(f.work().ok());
}

TEST_CASE("work directory: temporary names are never the same, in one mount or the next") {
  const Fixture f;
  std::set<std::string> names;
  for (int mount = 0; mount < 3; ++mount) {
    auto work = f.work();
    REQUIRE(work);
    for (int i = 0; i < 1000; ++i) {
      const std::string name = work->temp_name();
      REQUIRE(name.size() < 60);
      REQUIRE(name.find('/') == std::string::npos);
      REQUIRE(names.insert(name).second);
    }
  }
}

TEST_CASE("temp entry: what is not released is removed, a tree with all it holds") {
  const TempDir dir;
  const UniqueFd fd(::open(dir.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  make_dirs(dir.at("tree/in"));
  write_file(dir.at("tree/in/f"), "");
  write_file(dir.at("kept"), "");
  write_file(dir.at("moved"), "");
  {
    const TempEntry tree(fd.get(), "tree");
    TempEntry kept(fd.get(), "kept");
    CHECK(kept.release() == "kept");
    TempEntry moved(fd.get(), "moved");
    const TempEntry to(std::move(moved));
    CHECK(std::string(to.at().name) == "moved");
    CHECK(exists(dir.at("moved")));
  }
  CHECK(names_in(dir.path()) == std::vector<std::string>{"kept"});
}
