// A lower whose storage begins to fail while it is mounted: errors, never other content.
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tests/testlib/skip.h"
#include "tests/testlib/test_mount.h"

using namespace layerfs::testing;

namespace {

// The answer of a look at the tree, or the errno.
std::string text_of(const std::function<std::string()>& look) {
  try {
    return look();
  } catch (const std::system_error& error) {
    return "error " + std::to_string(error.code().value());
  }
}

const std::string kEio = "error " + std::to_string(EIO);

// More than the kernel asks for at once.
constexpr std::size_t kLong = 300000;

std::string content_of(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  std::string content(2 * kLong, '\0');
  const ssize_t size = fd < 0 ? -1 : ::read(fd, content.data(), content.size());
  const int error = errno;
  ::close(fd);
  if (size < 0) {
    throw std::system_error(error, std::generic_category(), path);
  }
  content.resize(static_cast<std::size_t>(size));
  return content;
}

std::string listing(const std::string& dir) {
  std::string text;
  for (const std::string& name : names_in(dir)) {
    text += name + " ";
  }
  return text;
}

// The layer l0 shown by failing-layer hides what the sound layer l1 has.
class FailingMount {
 public:
  explicit FailingMount(const std::string& io) : mount_(2) {
    const std::string under = mount_.base() + "/under";
    const std::string below = mount_.lower(1);
    for (const std::string& dir : {under + "/opaque", under + "/merged", below + "/opaque",
                                   below + "/merged", below + "/gone"}) {
      make_dirs(dir);
    }
    write_file(below + "/opaque/secret", "hidden");
    write_file(below + "/gone/secret", "hidden");
    write_file(below + "/deleted", "hidden");
    write_file(below + "/data", "hidden");
    write_file(below + "/merged/below", "below");
    write_file(below + "/merged/both", "hidden");
    write_file(under + "/data", std::string(kLong, 'd'));
    write_file(under + "/merged/both", "top");
    write_file(under + "/opaque/seen", "seen");
    REQUIRE(::setxattr((under + "/opaque").c_str(), "trusted.overlay.opaque", "y", 1, 0) == 0);
    for (const char* name : {"/deleted", "/gone"}) {
      REQUIRE(::mknod((under + name).c_str(), S_IFCHR, makedev(0, 0)) == 0);
    }
    write_file(control(), "");
    const CommandResult shown =
        run(LAYERFS_FAILING_LAYER " " + under + " " + control() + " " + mount_.lower(0));
    if (shown.code != 0) {
      throw std::runtime_error(shown.output);
    }
    try {
      mount_.mount("--io " + io);
    } catch (const std::exception&) {
      ::umount2(mount_.lower(0).c_str(), MNT_DETACH);
      throw;
    }
  }
  ~FailingMount() {
    write_file(control(), "");
    try {
      mount_.unmount();
    } catch (const std::exception& error) {
      FAIL_CHECK(error.what());
    }
    ::umount2(mount_.lower(0).c_str(), MNT_DETACH);
  }
  FailingMount(const FailingMount&) = delete;
  FailingMount& operator=(const FailingMount&) = delete;

  std::string at(const std::string& path) const { return mount_.at(path); }
  void fail(const std::string& kinds) const { write_file(control(), kinds); }

  std::map<std::string, std::string> look() const {
    std::map<std::string, std::string> seen;
    for (const std::string dir : {"", "opaque", "merged"}) {
      seen["names in " + dir] = text_of([&] { return listing(at(dir)); });
    }
    for (const std::string name : {"deleted", "gone", "gone/secret", "opaque/secret"}) {
      seen[name] = text_of([&] { return exists(at(name)) ? "exists" : "absent"; });
    }
    for (const std::string name : {"data", "merged/below", "merged/both", "opaque/seen"}) {
      seen[name] = text_of([&] { return content_of(at(name)); });
    }
    return seen;
  }

 private:
  std::string control() const { return mount_.base() + "/control"; }

  TestMount mount_;
};

const std::map<std::string, std::string>& whole() {
  static const std::map<std::string, std::string> right = {
      {"names in ", "data merged opaque "},
      {"names in opaque", "seen "},
      {"names in merged", "below both "},
      {"deleted", "absent"},
      {"gone", "absent"},
      {"gone/secret", "absent"},
      {"opaque/secret", "absent"},
      {"data", std::string(kLong, 'd')},
      {"merged/below", "below"},
      {"merged/both", "top"},
      {"opaque/seen", "seen"},
  };
  return right;
}

}  // namespace

TEST_CASE("while a layer fails what it gives is right or EIO, and all is right again afterwards",
          "[S-03]") {
  const std::string io = GENERATE(from_range(io_modes()));
  const std::string kinds =
      GENERATE("stat", "list", "xattr", "open", "read", "stat list xattr open read");
  const bool looked_before = GENERATE(false, true);
  CAPTURE(io, kinds, looked_before);
  const FailingMount mount(io);
  if (looked_before) {
    CHECK(mount.look() == whole());
  }
  mount.fail(kinds);
  std::size_t errors = 0;
  for (int pass = 0; pass < 2; ++pass) {
    for (const auto& [what, seen] : mount.look()) {
      CAPTURE(what);
      if (seen != kEio) {
        CHECK(seen == whole().at(what));
      }
      errors += seen == kEio ? 1 : 0;
    }
  }
  CHECK((looked_before || errors > 0));
  mount.fail("");
  CHECK(mount.look() == whole());
}

TEST_CASE("a change that needs a failing layer is EIO or whole, and brings nothing back",
          "[S-03]") {
  const std::string io = GENERATE(from_range(io_modes()));
  const std::string kinds = GENERATE("stat", "list", "xattr", "open", "read");
  CAPTURE(io, kinds);
  const FailingMount mount(io);
  mount.fail(kinds);
  const std::vector<std::pair<std::string, std::function<int()>>> changes = {
      {"truncate", [&] { return ::truncate(mount.at("data").c_str(), 9999); }},
      {"chmod", [&] { return ::chmod(mount.at("merged/both").c_str(), 0600); }},
      {"create", [&] { return ::mknod(mount.at("opaque/new").c_str(), S_IFREG | 0600, 0); }},
      {"unlink", [&] { return ::unlink(mount.at("merged/below").c_str()); }},
      {"mkdir", [&] { return ::mkdir(mount.at("gone").c_str(), 0700); }},
      {"rename", [&] { return ::rename(mount.at("merged").c_str(), mount.at("moved").c_str()); }},
  };
  std::map<std::string, bool> done;
  for (const auto& [what, change] : changes) {
    CAPTURE(what);
    done[what] = change() == 0;
    if (!done[what]) {
      CHECK(errno == EIO);
    }
  }
  mount.fail("");
  const std::string merged = done["rename"] ? "moved" : "merged";
  CHECK(content_of(mount.at("data")) == std::string(done["truncate"] ? 9999 : kLong, 'd'));
  CHECK(((stat_of(mount.at(merged + "/both")).st_mode & 07777) == 0600) == done["chmod"]);
  CHECK(content_of(mount.at(merged + "/both")) == "top");
  CHECK(listing(mount.at("opaque")) == (done["create"] ? "new seen " : "seen "));
  CHECK(listing(mount.at(merged)) == (done["unlink"] ? "both " : "below both "));
  CHECK_FALSE(exists(mount.at("deleted")));
  CHECK(exists(mount.at("gone")) == done["mkdir"]);
  if (done["mkdir"]) {
    CHECK(names_in(mount.at("gone")).empty());
  }
}
