#include "layers/identity.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "tests/testlib/layer_dirs.h"
#include "tests/testlib/skip.h"

using namespace layerfs;
using namespace layerfs::testing;

namespace {

uid_t owner(sys::At at, OverrideForm form) {
  const auto st = sys::stat_at(at);
  REQUIRE(st);
  const auto identity = read_identity(at, *st, form);
  REQUIRE(identity);
  return identity->uid;
}

}  // namespace

TEST_CASE("identity: the layer's attribute holds, else the other of the two of users") {
  const LayerDirs dirs;
  const UniqueFd file(
      ::open((dirs.upper() + "/f").c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
  const sys::At at{file.get()};
  const auto give = [&](OverrideForm form, const char* value) {
    return sys::set_xattr(at, override_stat_xattr(form), value).ok();
  };
  REQUIRE(give(OverrideForm::FuseOverlayfs, "2:2:644"));
  CHECK(owner(at, OverrideForm::FuseOverlayfs) == 2);
  CHECK(owner(at, OverrideForm::Containers) == 2);
  REQUIRE(give(OverrideForm::Containers, "1:1:644"));
  CHECK(owner(at, OverrideForm::FuseOverlayfs) == 2);
  CHECK(owner(at, OverrideForm::Containers) == 1);
  CHECK(owner(at, OverrideForm::Security) == ::geteuid());
  CHECK(owner(at, OverrideForm::None) == ::geteuid());
  REQUIRE(sys::remove_xattr(at, override_stat_xattr(OverrideForm::FuseOverlayfs)).ok());
  CHECK(owner(at, OverrideForm::FuseOverlayfs) == 1);
  if (!give(OverrideForm::Security, "3:3:644")) {
    SKIP_TEST("no right to set security attributes");
  }
  CHECK(owner(at, OverrideForm::Security) == 3);
  CHECK(owner(at, OverrideForm::Containers) == 1);
}

TEST_CASE("identity: symlinks and special files have their own, whatever attribute they have",
          "[S-21]") {
  const LayerDirs dirs;
  const UniqueFd dir(::open(dirs.upper().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  REQUIRE(::mkfifoat(dir.get(), "fifo", 0600) == 0);
  REQUIRE(::symlinkat("t", dir.get(), "link") == 0);
  const char* const attribute = override_stat_xattr(OverrideForm::Security);
  for (const char* name : {"fifo", "link"}) {
    CAPTURE(name);
    const sys::At at{dir.get(), name};
    if (!sys::set_xattr(at, attribute, "3:3:644").ok()) {
      SKIP_TEST("no right to set security attributes");
    }
    CHECK(owner(at, OverrideForm::Security) == ::geteuid());
  }
}
