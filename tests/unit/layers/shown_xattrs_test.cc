#include "layers/shown_xattrs.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <algorithm>
#include <catch2/catch.hpp>

#include "tests/testlib/layer_dirs.h"
#include "tests/testlib/skip.h"

using namespace layerfs;
using namespace layerfs::testing;

namespace {

constexpr const char* kPlain = "security.layerfs";
constexpr const char* kOtherwise = "user.containers.override_security.layerfs";

struct Fixture {
  LayerDirs dirs;
  UniqueFd dir{::open(dirs.upper().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  UniqueFd file{::openat(dir.get(), "f", O_RDWR | O_CREAT | O_CLOEXEC, 0644)};
  sys::At at{dir.get(), "f"};

  std::string stored(const char* name) const { return sys::get_xattr(at, name)->value_or("none"); }
  std::string shown(const char* name) const {
    return get_shown_xattr(at, OverrideForm::Containers, name)->value_or("none");
  }
};

}  // namespace

TEST_CASE("security attributes have other names where owners are in user.containers., no others") {
  const Fixture f;
  REQUIRE(set_shown_xattr(f.at, OverrideForm::Containers, kPlain, "a").ok());
  REQUIRE(set_shown_xattr(f.at, OverrideForm::Containers, "user.a", "b").ok());
  CHECK(f.stored(kOtherwise) == "a");
  CHECK(f.stored(kPlain) == "none");
  CHECK(f.stored("user.a") == "b");
  CHECK(f.shown(kPlain) == "a");
  auto names = *list_shown_xattrs(f.at, OverrideForm::Containers);
  std::sort(names.begin(), names.end());
  CHECK(names == std::vector<std::string>{kPlain, "user.a"});
  for (const OverrideForm form :
       {OverrideForm::None, OverrideForm::FuseOverlayfs, OverrideForm::Security}) {
    CHECK_FALSE(get_shown_xattr(f.at, form, kPlain)->has_value());
    CHECK(*list_shown_xattrs(f.at, form) == std::vector<std::string>{"user.a"});
  }
  REQUIRE(remove_shown_xattr(f.at, OverrideForm::Containers, kPlain).ok());
  CHECK(f.stored(kOtherwise) == "none");
}

TEST_CASE("a security attribute of the plain name is shown until one of the other is set") {
  const Fixture f;
  if (!sys::set_xattr(f.at, kPlain, "plain").ok()) {
    WARN("no right to set security attributes");
    return;
  }
  CHECK(f.shown(kPlain) == "plain");
  const auto created = set_shown_xattr(f.at, OverrideForm::Containers, kPlain, "a", XATTR_CREATE);
  CHECK(created.error() == Errno(EEXIST));
  REQUIRE(set_shown_xattr(f.at, OverrideForm::Containers, kPlain, "a", XATTR_REPLACE).ok());
  CHECK(f.shown(kPlain) == "a");
  CHECK(list_shown_xattrs(f.at, OverrideForm::Containers)->size() == 1);
  REQUIRE(remove_shown_xattr(f.at, OverrideForm::Containers, kPlain).ok());
  CHECK(f.shown(kPlain) == "none");
  CHECK(list_shown_xattrs(f.at, OverrideForm::Containers)->empty());
}

TEST_CASE(
    "a security attribute of a special file has its plain name, created or replaced as asked") {
  const Fixture f;
  REQUIRE(::mkfifoat(f.dir.get(), "fifo", 0600) == 0);
  const sys::At fifo{f.dir.get(), "fifo"};
  const auto set = [&](const char* value, int flags) {
    return set_shown_xattr(fifo, OverrideForm::Containers, kPlain, value, flags);
  };
  if (!sys::set_xattr({f.dir.get()}, kPlain, "x").ok()) {
    SKIP_TEST("no right to set security attributes");
  }
  CHECK(set("a", XATTR_CREATE).ok());
  CHECK(set("b", XATTR_CREATE).error() == Errno(EEXIST));
  CHECK(set("b", XATTR_REPLACE).ok());
  CHECK(*sys::get_xattr(fifo, kPlain) == "b");
  CHECK(*get_shown_xattr(fifo, OverrideForm::Containers, kPlain) == "b");
}
