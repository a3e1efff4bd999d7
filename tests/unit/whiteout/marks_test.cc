#include "whiteout/marks.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "tests/testlib/faults.h"
#include "tests/testlib/files.h"
#include "tests/testlib/skip.h"

using namespace layerfs;
using namespace layerfs::testing;
using namespace std::string_literals;

namespace {

constexpr std::uint64_t kOwnIno = 0x1234;

// A directory to try marks in, open as the layers have theirs.
struct Place {
  TempDir dir;
  UniqueFd fd{::open(dir.path().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)};

  sys::At at(const char* name) const { return {fd.get(), name}; }
  sys::At file(const char* name) const {
    write_file(dir.at(name), "");
    return at(name);
  }
  sys::At subdir(const char* name) const {
    make_dirs(dir.at(name));
    return at(name);
  }
  // False where the process may not (trusted attributes).
  bool set(const char* name, const char* attribute, const std::string& value) const {
    return ::lsetxattr(dir.at(name).c_str(), attribute, value.data(), value.size(), 0) == 0;
  }
  bool is_whiteout(const char* name) const {
    const auto st = sys::try_stat_at(at(name));
    REQUIRE(st);
    const std::string marker = ".wh."s + name;
    return (*st && is_whiteout_device(**st)) || exists(dir.at(marker));
  }
};

bool is_root() { return ::geteuid() == 0; }

DirMarks dir_marks(sys::At at) {
  auto marks = read_dir_marks(at);
  REQUIRE(marks);
  return *marks;
}
FileMarks file_marks(sys::At at, std::uint64_t own_ino = kOwnIno) {
  auto marks = read_file_marks(at, own_ino);
  REQUIRE(marks);
  return *marks;
}

}  // namespace

TEST_CASE("names of marks are reserved, and only they") {
  for (const char* name : {".wh.f", ".wh.", ".wh..wh..opq", ".wh..wh.aufs", ".wh..", ".wh.\xff"}) {
    CAPTURE(name);
    CHECK(is_reserved_name(name));
  }
  for (const char* name : {"", "f", ".", ".wh", ".whx", "wh.f", ".Wh.f", "a.wh.f", "..wh.f"}) {
    CAPTURE(name);
    CHECK_FALSE(is_reserved_name(name));
  }
}

TEST_CASE("attributes of marks are internal, and only they") {
  for (const char* name : {"trusted.overlay.opaque", "trusted.overlay.", "user.overlay.redirect",
                           "trusted.overlay.layerfs.origin", "trusted.overlay.overlay.opaque",
                           "user.fuseoverlayfs.opaque", "user.fuseoverlayfs.override_stat",
                           "security.fuseoverlayfs.override_stat", "user.containers.override_stat",
                           "user.containers.override_x"}) {
    CAPTURE(name);
    CHECK(is_internal_xattr(name));
  }
  for (const char* name : {"", "user.overlay", "trusted.overlay", "user.overlayfs.x",
                           "security.capability", "user.containers.x", "system.posix_acl_access",
                           "trusted.x", "overlay.opaque", "Trusted.overlay.opaque"}) {
    CAPTURE(name);
    CHECK_FALSE(is_internal_xattr(name));
  }
}

TEST_CASE("a whiteout device is character device 0:0 and no other object") {
  struct statx st {};
  st.stx_mode = S_IFCHR | 0644;
  CHECK(is_whiteout_device(st));
  st.stx_rdev_minor = 1;
  CHECK_FALSE(is_whiteout_device(st));
  st.stx_rdev_minor = 0;
  st.stx_rdev_major = 1;
  CHECK_FALSE(is_whiteout_device(st));
  st.stx_rdev_major = 0;
  for (const unsigned type : {S_IFBLK, S_IFREG, S_IFIFO, S_IFDIR}) {
    st.stx_mode = static_cast<std::uint16_t>(type | 0644);
    CHECK_FALSE(is_whiteout_device(st));
  }
}

TEST_CASE("a directory is opaque by each attribute beginning with y, and by the marker file") {
  const Place place;
  const sys::At dir = place.subdir("d");
  CHECK(dir_marks(dir).opaque == Opaque::No);
  std::string attribute = "user.overlay.opaque";
  std::string value;
  Opaque expected = Opaque::Yes;
  SECTION("y") { value = "y"; }
  SECTION("yes") { value = "yes"; }
  SECTION("of fuse-overlayfs") {
    attribute = "user.fuseoverlayfs.opaque";
    value = "y";
  }
  SECTION("trusted") {
    if (!is_root()) {
      SKIP_TEST("needs root for trusted attributes");
    }
    attribute = "trusted.overlay.opaque";
    value = "y";
  }
  SECTION("x says that its empty files may be whiteouts") {
    value = "x";
    expected = Opaque::Whiteouts;
  }
  SECTION("anything else says nothing") {
    value = GENERATE(as<std::string>{}, "", "n", "Y", "xy", "0");
    expected = Opaque::No;
  }
  CAPTURE(attribute, value);
  REQUIRE(place.set("d", attribute.c_str(), value));
  CHECK(dir_marks(dir).opaque == expected);
  // Found from inside as well as by name.
  const UniqueFd inside(::open(place.dir.at("d").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  CHECK(dir_marks({inside.get()}).opaque == expected);
  write_file(place.dir.at("d/.wh..wh..opq"), "");
  CHECK(dir_marks(dir).opaque == Opaque::Yes);
  CHECK(dir_marks({inside.get()}).opaque == Opaque::Yes);
}

TEST_CASE("of two opaque marks the one that hides more counts, in whatever order they are listed") {
  if (!is_root()) {
    SKIP_TEST("needs root for trusted attributes");
  }
  const Place place;
  const sys::At dir = place.subdir("d");
  const bool first = GENERATE(true, false);
  REQUIRE(place.set("d", "trusted.overlay.opaque", first ? "x" : "y"));
  REQUIRE(place.set("d", "user.overlay.opaque", first ? "y" : "x"));
  CHECK(dir_marks(dir).opaque == Opaque::Yes);
}

TEST_CASE("redirect and impure marks of a directory are read from both namespaces") {
  const Place place;
  const sys::At dir = place.subdir("d");
  CHECK_FALSE(dir_marks(dir).redirect);
  CHECK_FALSE(dir_marks(dir).impure);
  const std::string ns = GENERATE("user", "trusted");
  if (ns == "trusted" && !is_root()) {
    SKIP_TEST("needs root for trusted attributes");
  }
  const std::string target = "/" + std::string(2000, 'a');
  REQUIRE(place.set("d", (ns + ".overlay.redirect").c_str(), target));
  REQUIRE(place.set("d", (ns + ".overlay.impure").c_str(), "y"));
  CHECK(dir_marks(dir).redirect == target);
  CHECK(dir_marks(dir).impure);
}

TEST_CASE("a file's marks are read from both namespaces, metacopy with any value") {
  const Place place;
  const sys::At file = place.file("f");
  const FileMarks none = file_marks(file);
  CHECK_FALSE(none.metacopy);
  CHECK_FALSE(none.redirect);
  CHECK_FALSE(none.origin);
  CHECK_FALSE(none.nlink);
  const std::string ns = GENERATE("user", "trusted");
  if (ns == "trusted" && !is_root()) {
    SKIP_TEST("needs root for trusted attributes");
  }
  const std::string digest("\0\4\0\1digest", 10);
  const std::string metacopy = GENERATE_COPY(as<std::string>{}, ""s, "y"s, digest);
  REQUIRE(place.set("f", (ns + ".overlay.metacopy").c_str(), metacopy));
  REQUIRE(place.set("f", (ns + ".overlay.redirect").c_str(), "/d/f"));
  REQUIRE(place.set("f", (ns + ".overlay.nlink").c_str(), "U+2"));
  REQUIRE(place.set("f", (ns + ".overlay.layerfs.origin").c_str(), "v1 ab cd 1234"));
  const FileMarks marks = file_marks(file);
  CHECK(marks.metacopy);
  CHECK(marks.redirect == "/d/f");
  CHECK(marks.nlink == "U+2");
  REQUIRE(marks.origin);
  CHECK(marks.origin->fsid == 0xab);
  CHECK(marks.origin->ino == 0xcd);
}

TEST_CASE("an origin of another inode or another version tells nothing") {
  const Place place;
  const sys::At file = place.file("f");
  const std::string value =
      GENERATE(as<std::string>{}, "", "v1", "v1 ", "v1 1 2", "v1 1 2 3", "v2 ab cd 1234",
               "v1 ab cd 1234 5", "v1 ab cd 1234 ", "v1 g cd 1234", "v1 ab cd 11234567812345678",
               "v1 -1 cd 1234", "v1 0xab cd 1234", "V1 ab cd 1234");
  CAPTURE(value);
  REQUIRE(place.set("f", "user.overlay.layerfs.origin", value));
  CHECK_FALSE(file_marks(file).origin);
}

TEST_CASE("the kernel's own origin handle is no origin of ours, nor an error") {
  const Place place;
  const sys::At file = place.file("f");
  REQUIRE(place.set("f", "user.overlay.origin", "\0\xfb\x1d"s));
  CHECK_FALSE(file_marks(file).origin);
}

TEST_CASE("a whiteout by attribute is one in either namespace") {
  const Place place;
  const sys::At file = place.file("f");
  auto found = is_whiteout_by_xattr(file);
  REQUIRE(found);
  CHECK_FALSE(*found);
  const std::string ns = GENERATE("user", "trusted");
  if (ns == "trusted" && !is_root()) {
    SKIP_TEST("needs root for trusted attributes");
  }
  REQUIRE(place.set("f", (ns + ".overlay.whiteout").c_str(), GENERATE("", "y")));
  found = is_whiteout_by_xattr(file);
  REQUIRE(found);
  CHECK(*found);
}

TEST_CASE("any failure to read marks is that failure, never the absence of marks") {
  const Place place;
  place.subdir("d");
  REQUIRE(place.set("d", "user.overlay.opaque", "y"));
  REQUIRE(place.set("d", "user.overlay.redirect", "/x"));
  place.subdir("e");
  write_file(place.dir.at("e/.wh..wh..opq"), "");
  place.file("f");
  REQUIRE(place.set("f", "user.overlay.metacopy", ""));
  REQUIRE(place.set("f", "user.overlay.redirect", "/x"));
  const int error = GENERATE(EIO, EACCES, EPERM, ENOMEM, ESTALE);
  std::size_t failed = 0;
  const auto check = [&](const auto& result) {
    REQUIRE_FALSE(result.ok());
    CHECK(result.error() == Errno(error));
    ++failed;
  };
  for (const Call call : kReadingCalls) {
    CAPTURE(to_string(call), error);
    fail_each(
        call, error, [&] { return read_dir_marks(place.at("d")); }, check);
    fail_each(
        call, error, [&] { return read_dir_marks(place.at("e")); }, check);
    fail_each(
        call, error, [&] { return read_file_marks(place.at("f"), 0); }, check);
    fail_each(
        call, error, [&] { return is_whiteout_by_xattr(place.at("f")); }, check);
  }
  // list and two values of "d"; list, reopening and the marker of "e"; list and redirect of
  // "f"; two attributes.
  CHECK(failed == 3 + 3 + 2 + 2);
}

TEST_CASE("an attribute that is gone after it was listed is EIO") {
  const Place place;
  place.subdir("d");
  REQUIRE(place.set("d", "user.overlay.opaque", "y"));
  const Fault fault(Call::GetXattr, ENODATA);
  const auto marks = read_dir_marks(place.at("d"));
  REQUIRE_FALSE(marks.ok());
  CHECK(marks.error() == Errno(EIO));
}

TEST_CASE("marks of a directory that is not there, or is a file, cannot be read") {
  const Place place;
  place.file("f");
  CHECK_FALSE(read_dir_marks(place.at("none")).ok());
  CHECK_FALSE(read_dir_marks(place.at("f")).ok());
  CHECK_FALSE(read_file_marks(place.at("none"), 0).ok());
}

TEST_CASE("what is written in each form is read back as written") {
  const Place place;
  const WhiteoutForm form = GENERATE(WhiteoutForm::Overlay, WhiteoutForm::DotWh);
  const XattrNamespace ns = GENERATE(XattrNamespace::User, XattrNamespace::Trusted);
  if (ns == XattrNamespace::Trusted && !is_root()) {
    SKIP_TEST("needs root for trusted attributes");
  }
  const MarkWriter marks(form, ns, false);

  REQUIRE(marks.make_whiteout(place.fd.get(), "gone").ok());
  CHECK(place.is_whiteout("gone"));
  CHECK(exists(place.dir.at(form == WhiteoutForm::Overlay ? "gone" : ".wh.gone")));
  CHECK(marks.make_whiteout(place.fd.get(), "gone").error() == Errno(EEXIST));
  CHECK(marks.remove_whiteout(place.fd.get(), "gone").ok());
  CHECK_FALSE(place.is_whiteout("gone"));
  CHECK(marks.remove_whiteout(place.fd.get(), "gone").ok());

  const sys::At dir = place.subdir("d");
  REQUIRE(marks.set_opaque(dir).ok());
  REQUIRE(marks.set_opaque(dir).ok());
  REQUIRE(marks.set_redirect(dir, "/some/where").ok());
  REQUIRE(marks.set_impure(dir).ok());
  const DirMarks read = dir_marks(dir);
  CHECK(read.opaque == Opaque::Yes);
  CHECK(read.redirect == "/some/where");
  CHECK(read.impure);
  // OCI layers carry no attribute that means opaque.
  CHECK(exists(place.dir.at("d/.wh..wh..opq")) == (form == WhiteoutForm::DotWh));

  const sys::At file = place.file("f");
  REQUIRE(marks.set_metacopy(file).ok());
  REQUIRE(marks.set_redirect(file, "/f").ok());
  REQUIRE(marks.set_origin(file, {~std::uint64_t{0}, 0}, kOwnIno).ok());
  REQUIRE(marks.set_nlink(file, "U-1").ok());
  FileMarks of_file = file_marks(file);
  CHECK(of_file.metacopy);
  CHECK(of_file.redirect == "/f");
  CHECK(of_file.nlink == "U-1");
  REQUIRE(of_file.origin);
  CHECK(of_file.origin->fsid == ~std::uint64_t{0});
  CHECK(of_file.origin->ino == 0);
  REQUIRE(marks.clear_metacopy(file).ok());
  of_file = file_marks(file);
  CHECK_FALSE(of_file.metacopy);
  CHECK_FALSE(of_file.redirect);
  CHECK(of_file.origin);
  CHECK(marks.clear_metacopy(file).ok());
}

TEST_CASE("a whiteout of either form is removed by a writer of either form, and nothing else is") {
  const Place place;
  const WhiteoutForm written = GENERATE(WhiteoutForm::Overlay, WhiteoutForm::DotWh);
  const WhiteoutForm remover = GENERATE(WhiteoutForm::Overlay, WhiteoutForm::DotWh);
  REQUIRE(
      MarkWriter(written, XattrNamespace::User, false).make_whiteout(place.fd.get(), "gone").ok());
  place.file("kept");
  const MarkWriter marks(remover, XattrNamespace::User, false);
  CHECK(marks.remove_whiteout(place.fd.get(), "gone").ok());
  CHECK_FALSE(place.is_whiteout("gone"));
  CHECK(marks.remove_whiteout(place.fd.get(), "kept").ok());
  CHECK(names_in(place.dir.path()) == std::vector<std::string>{"kept"});
}

TEST_CASE("without attributes a directory is opaque by the marker, and the rest is EOPNOTSUPP") {
  const Place place;
  const MarkWriter marks(WhiteoutForm::Overlay, XattrNamespace::None, false);
  CHECK_FALSE(marks.has_xattrs());
  const sys::At dir = place.subdir("d");
  CHECK(marks.set_opaque(dir).ok());
  CHECK(dir_marks(dir).opaque == Opaque::Yes);
  CHECK(exists(place.dir.at("d/.wh..wh..opq")));
  CHECK(marks.set_redirect(dir, "/x").error() == Errno(EOPNOTSUPP));
  CHECK(marks.set_metacopy(place.file("f")).error() == Errno(EOPNOTSUPP));
}

TEST_CASE("probing takes what works here, and leaves nothing behind") {
  const Place place;
  const auto marks = probe_marks(place.fd.get(), {});
  REQUIRE(marks);
  CHECK(marks->form() == WhiteoutForm::Overlay);
  CHECK(marks->has_rename_whiteout());
  CHECK(marks->xattr_namespace() == (is_root() ? XattrNamespace::Trusted : XattrNamespace::User));
  CHECK(names_in(place.dir.path()).empty());
}

TEST_CASE("probing keeps to the wishes, and to leftovers of an earlier probe") {
  const Place place;
  write_file(place.dir.at("layerfs-probe"), "left");
  write_file(place.dir.at("layerfs-probe-moved"), "left");
  const auto marks = probe_marks(place.fd.get(), {WhiteoutForm::DotWh, XattrNamespace::User});
  REQUIRE(marks);
  CHECK(marks->form() == WhiteoutForm::DotWh);
  CHECK(marks->xattr_namespace() == XattrNamespace::User);
  CHECK(names_in(place.dir.path()).empty());
}

TEST_CASE("an attribute namespace that is not permitted is passed over, or EOPNOTSUPP if wished") {
  const Place place;
  const int error = GENERATE(EPERM, EOPNOTSUPP, ENOSYS);
  {
    const Fault first(Call::SetXattr, error);
    const auto marks = probe_marks(place.fd.get(), {});
    REQUIRE(marks);
    CHECK(marks->xattr_namespace() == XattrNamespace::User);
  }
  const Fault only(Call::SetXattr, error);
  const auto wished = probe_marks(place.fd.get(), {{}, XattrNamespace::User});
  REQUIRE_FALSE(wished);
  CHECK(wished.error() == Errno(EOPNOTSUPP));
}

TEST_CASE("a filesystem that is full or broken while probing is an error, not a lesser form") {
  const Place place;
  const Call call = GENERATE(Call::SetXattr, Call::Rename, Call::Statx);
  const int error = GENERATE(ENOSPC, EIO);
  const std::size_t failed = fail_each(
      call, error, [&] { return probe_marks(place.fd.get(), {}); },
      [&](const auto& result) {
        REQUIRE_FALSE(result.ok());
        CHECK(result.error() == Errno(error));
      });
  CHECK(failed > 0);
}

TEST_CASE("without RENAME_WHITEOUT the device form is still taken") {
  const Place place;
  const Fault fault(Call::Rename, EINVAL);
  const auto marks = probe_marks(place.fd.get(), {});
  REQUIRE(marks);
  CHECK(marks->form() == WhiteoutForm::Overlay);
  CHECK_FALSE(marks->has_rename_whiteout());
}
