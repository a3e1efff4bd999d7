// Layers' tars, honest and hostile, as directories.
#include "tools/oci/layer_unpack.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <random>

#include "tests/testlib/hostile_layers.h"
#include "tests/testlib/skip.h"
#include "tests/testlib/tar_text.h"
#include "tests/testlib/tree_maker.h"
#include "tests/testlib/tree_manifest.h"
#include "tools/oci/layer_output.h"
#include "tools/oci/pack.h"

using namespace layerfs;
using namespace layerfs::oci;
using namespace layerfs::testing;

namespace {

class StringSource : public ByteSource {
 public:
  explicit StringSource(std::string text) : text_(std::move(text)) {}
  Fallible<std::size_t> read(char* data, std::size_t size) override {
    const std::size_t have = text_.copy(data, std::min<std::size_t>(size, 1000), at_);
    at_ += have;
    return have;
  }

 private:
  std::string text_;
  std::size_t at_ = 0;
};

class StringSink : public ByteSink {
 public:
  Fallible<void> write(std::string_view bytes) override {
    text += bytes;
    return {};
  }
  std::string text;
};

// A directory to unpack into, with something beside it that must stay as it is.
class Target {
 public:
  Target() {
    make_tree(dir_ / "outside", {"file=precious", "d/x=1"});
    make_dirs(dir_ / "in");
  }
  const TempDir& dir() const { return dir_; }
  std::string in(const std::string& name) const { return dir_.at("in/" + name); }
  bool outside_is_untouched() const {
    return names_in(dir_.path()) == std::vector<std::string>{"in", "outside"} &&
           names_in(dir_ / "outside") == std::vector<std::string>{"d", "file"} &&
           names_in(dir_ / "outside/d") == std::vector<std::string>{"x"} &&
           read_file(dir_ / "outside/file") == "precious";
  }

  Fallible<UnpackedLayer> unpack(const std::string& tar, WhiteoutForm form = WhiteoutForm::DotWh,
                                 std::optional<Digest> diff_id = {},
                                 ApplyLimits limits = {1 << 20, 1000}) {
    const UniqueFd root(::open((dir_ / "in").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    REQUIRE(root);
    const auto marks = probe_marks(root.get(), {form, std::nullopt});
    REQUIRE(marks);
    ApplyOptions options;
    options.marks = *marks;
    options.override_stat = override_stat;
    options.limits = limits;
    return unpack_layer({std::make_unique<StringSource>(tar), "LAYER", diff_id,
                         [](std::uint64_t) { return Fallible<void>(); }},
                        root.get(), options);
  }
  std::string error(const std::string& tar, ApplyLimits limits = {1 << 20, 1000}) {
    const auto done = unpack(tar, WhiteoutForm::DotWh, {}, limits);
    return done ? "" : done.error().message;
  }

  bool override_stat = ::geteuid() != 0;

 private:
  TempDir dir_;
};

}  // namespace

TEST_CASE("unpack: every archive that would write elsewhere is refused by the entry's name") {
  for (const HostileLayer& hostile : hostile_layers()) {
    Target target;
    CAPTURE(hostile.words);
    const std::string message = target.error(tar_text(hostile.words));
    CAPTURE(message);
    CHECK(message.find("'" + hostile.named + "'") != std::string::npos);
    CHECK(target.outside_is_untouched());
  }
}

TEST_CASE("unpack: sizes and counts beyond the limits are refused before anything is written") {
  Target big;
  TarEntry entry;
  entry.path = "huge";
  entry.size = 1ULL << 62;
  CHECK(big.error(encode_tar_header(entry) + std::string(1024, '\0')).find("'huge'") !=
        std::string::npos);
  CHECK(names_in(big.dir() / "in").empty());
  Target sum;
  const std::string half = std::string(600, 'x');
  CHECK(sum.error(tar_text({"a=" + half, "b=" + half}), {1000, 10}).find("'b'") !=
        std::string::npos);
  Target many;
  CHECK(many.error(tar_text({"a=", "b=", "c="}), {1000, 2}).find("'c'") != std::string::npos);
  // Directories that it names in passing count.
  CHECK(Target().error(tar_text({"a/b/c/d="}), {1000, 3}).find("'a/b/c/d'") != std::string::npos);
  CHECK(Target().unpack(tar_text({"a/b/c="})));
  TarEntry deep;
  deep.path = "deep";
  for (int i = 0; i < 2048; ++i) {
    deep.path += "/d";
  }
  CHECK(Target().error(encode_tar_header(deep) + std::string(1024, '\0')).find("is too deep") !=
        std::string::npos);
  // Few bytes that stand for many.
  StringSink bomb;
  auto output = LayerOutput::create(bomb, {Codec::Gzip, std::nullopt}, 1);
  REQUIRE(output);
  entry.path = "bomb";
  entry.size = 64 << 20;
  REQUIRE((*output)->write(encode_tar_header(entry)));
  REQUIRE((*output)->write_zeros(entry.size + kTarTrailerBytes));
  REQUIRE((*output)->finish());
  Target bombed;
  CHECK(bombed.error(bomb.text).find("'bomb'") != std::string::npos);
}

TEST_CASE("unpack: damaged archives fail") {
  const std::string good = tar_text({"a=" + std::string(5000, 'a'), "b=2"});
  for (const std::size_t size : {100UL, 700UL, 3000UL, 5500UL}) {
    CAPTURE(size);
    Target target;
    CHECK_FALSE(target.error(good.substr(0, size)).empty());
  }
  std::string broken = good;
  broken[10] = 'x';
  CHECK_FALSE(Target().error(broken).empty());
  CHECK_FALSE(Target().error("no tar at all, " + std::string(2000, 'x')).empty());
  StringSink gzip;
  auto output = LayerOutput::create(gzip, {Codec::Gzip, std::nullopt}, 1);
  REQUIRE((*output)->write(good));
  REQUIRE((*output)->finish());
  CHECK(Target().error(gzip.text).empty());
  CHECK(Target().error(gzip.text + "garbage").find("follows") != std::string::npos);
  CHECK(Target().error(gzip.text.substr(0, gzip.text.size() - 4)).find("cut short") !=
        std::string::npos);
}

TEST_CASE("unpack: a tar that is not what its diff id says fails, also behind its end") {
  const std::string tar = tar_text({"a=1"});
  CHECK(Target().unpack(tar, WhiteoutForm::DotWh, Digest::of(tar)));
  const auto other = Target().unpack(tar, WhiteoutForm::DotWh, Digest::of("x"));
  REQUIRE_FALSE(other);
  CHECK(other.error().message.find("is damaged") != std::string::npos);
  const std::string longer = tar + std::string(10240, '\0');
  CHECK_FALSE(Target().unpack(longer, WhiteoutForm::DotWh, Digest::of(tar)));
  CHECK(Target().unpack(longer, WhiteoutForm::DotWh, Digest::of(longer)));
}

TEST_CASE("unpack: changed bytes never lead outside") {
  const std::string good =
      tar_text({"d/", "d/f=text", "s->../outside", "h==d/f",
                ".wh.x=", "d/.wh..wh..opq=", "dir/a#user.x=1", "p|", "last=1"});
  std::mt19937 random(7);  // NOLINT(cert-msc51-cpp): the same each time
  Target target;
  for (int i = 0; i < 600; ++i) {
    std::string tar = good;
    for (unsigned n = random() % 4 + 1; n > 0; --n) {
      const std::size_t header = random() % (tar.size() / 512) * 512;
      tar[header + random() % 260] = "./s-outide\0\x7f"[random() % 12];
      // A right checksum, so that it is looked at.
      unsigned sum = 0;
      for (std::size_t at = 0; at < 512; ++at) {
        sum += at >= 148 && at < 156 ? ' ' : static_cast<unsigned char>(tar[header + at]);
      }
      char text[8];
      std::snprintf(text, sizeof text, "%06o", sum);
      tar.replace(header + 148, 7, text, 7);
    }
    const auto done = target.unpack(tar);
    CAPTURE(done.ok());
    REQUIRE(target.outside_is_untouched());
    REQUIRE(::system(("chmod -R u+rwx '" + target.in("") + "' && rm -rf '" + target.in("") + "'")
                         .c_str()) == 0);
    make_dirs(target.in(""));
  }
}

TEST_CASE("unpack: whiteouts and opaque marks in both forms, in any order") {
  for (const WhiteoutForm form : {WhiteoutForm::DotWh, WhiteoutForm::Overlay}) {
    Target target;
    const auto done = target.unpack(
        tar_text({".wh.gone=", "d/", "d/.wh..wh..opq=", "d/f=1", "implied/.wh.x=", "was/",
                  ".wh.was=", ".wh.file=", "file=1", ".wh.dir=", "dir/", ".wh..wh.plnk/",
                  ".wh..wh.plnk/1=x", ".wh..wh.aufs="}),
        form);
    INFO((done ? "" : done.error().message));
    REQUIRE(done);
    CHECK(done->has_implied);
    const bool dot = form == WhiteoutForm::DotWh;
    CHECK(exists(target.in(".wh.gone")) == dot);
    CHECK(exists(target.in("gone")) == !dot);
    CHECK(exists(target.in(dot ? "implied/.wh.x" : "implied/x")));
    for (const char* name : {"d", "was", "dir"}) {
      CAPTURE(name);
      const auto marks = read_dir_marks({AT_FDCWD, target.in(name).c_str()});
      REQUIRE(marks);
      CHECK(marks->opaque == Opaque::Yes);
    }
    CHECK(read_file(target.in("file")) == "1");
    CHECK_FALSE(exists(target.in(".wh.file")));
    CHECK_FALSE(exists(target.in(".wh..wh.plnk")));
    if (!dot) {
      CHECK(S_ISCHR(stat_of(target.in("gone")).st_mode));
      CHECK(S_ISDIR(stat_of(target.in("dir")).st_mode));
    }
  }
}

TEST_CASE("unpack: a directory keeps its time, whatever comes into it after others") {
  for (const WhiteoutForm form : {WhiteoutForm::DotWh, WhiteoutForm::Overlay}) {
    if (form == WhiteoutForm::Overlay && ::geteuid() != 0) {
      continue;
    }
    Target target;
    const auto done = target.unpack(
        tar_text({"d/", "d/f=1", "e/", "e/sub/", "own/", "d/g=1", "e/h=1", "d/implied/i=1",
                  "e/.wh.gone=", "d/link==e/h", "e/.wh..wh..opq=", "e/sub/j=1", ".wh.own="}),
        form);
    CAPTURE(done ? "" : done.error().message);
    REQUIRE(done);
    for (const char* name : {"d", "e", "e/sub", "own"}) {
      CAPTURE(name);
      CHECK(stat_of(target.in(name)).st_mtime == 1000000000);
    }
    CHECK(read_file(target.in("d/link")) == "1");
  }
}

TEST_CASE("unpack: what comes late into a directory does not inherit its default ACL") {
  // user::rwx, user:1234:rwx, group::r-x, mask::rwx, other::r-x (linux/posix_acl_xattr.h).
  std::string acl("\2\0\0\0", 4);
  for (const auto& [tag, permissions, id] :
       {std::tuple{1, 7, '\xff'}, std::tuple{2, 7, '\x01'}, std::tuple{4, 5, '\xff'},
        std::tuple{0x10, 7, '\xff'}, std::tuple{0x20, 5, '\xff'}}) {
    acl += {static_cast<char>(tag), 0, static_cast<char>(permissions), 0, id, id, id, id};
  }
  TarEntry dir;
  dir.type = TarType::Directory;
  dir.path = "d";
  dir.mode = 0755;
  dir.xattrs = {{"system.posix_acl_default", acl}};
  Target target;
  const auto done =
      target.unpack(encode_tar_header(dir) + tar_text({"other/", "d/late=1", "d/sub/"}));
  CAPTURE(done ? "" : done.error().message);
  REQUIRE(done);
  if (!done->losses.empty()) {
    SKIP_TEST("the filesystem of /var/tmp has no ACLs");
  }
  const auto size = [&](const char* name, const char* attribute) {
    return ::lgetxattr(target.in(name).c_str(), attribute, nullptr, 0);
  };
  CHECK(size("d", "system.posix_acl_default") == static_cast<ssize_t>(acl.size()));
  for (const char* name : {"d/late", "d/sub"}) {
    CAPTURE(name);
    CHECK(size(name, "system.posix_acl_access") == -1);
    CHECK(size(name, "system.posix_acl_default") == -1);
  }
}

TEST_CASE("unpack: a whiteout gives way to a directory without an entry") {
  for (const WhiteoutForm form : {WhiteoutForm::DotWh, WhiteoutForm::Overlay}) {
    if (form == WhiteoutForm::Overlay && ::geteuid() != 0) {
      continue;
    }
    Target target;
    const auto done = target.unpack(tar_text({".wh.a=", "a/b/c=1", "x/.wh.y=", "x/y/z=1"}), form);
    CAPTURE(done ? "" : done.error().message);
    REQUIRE(done);
    for (const char* name : {"a", "x/y"}) {
      const UniqueFd fd(::open(target.in(name).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
      REQUIRE(fd);
      const auto marks = read_dir_marks({fd.get()});
      REQUIRE(marks);
      CHECK(marks->opaque == Opaque::Yes);
    }
    CHECK(read_file(target.in("a/b/c")) == "1");
    CHECK_FALSE(exists(target.in(".wh.a")));
  }
}

TEST_CASE("unpack: what a layer was made of comes back") {
  if (::geteuid() != 0) {
    SKIP_TEST("owners are set by root only");
  }
  const TempDir dir;
  make_tree(dir / "t", {"a=text",
                        "a@4755",
                        "b==a",
                        "dir/sub/",
                        "dir@1777",
                        "dir~5.25",
                        "s->a",
                        "p|",
                        "caf\xe9=latin1",
                        "\xc3\xa9=utf8",
                        "e\xcc\x81=decomposed",
                        "n=x",
                        "n~0.000000001",
                        "old=1",
                        "old~-5",
                        "x=1",
                        "x#user.one=1",
                        "dir#user.two=2",
                        std::string(200, 'l') + "/" + std::string(250, 'm') + "=long",
                        "empty=",
                        "zeros=" + std::string(300000, '\0') + "end"});
  REQUIRE(::chown((dir / "t/x").c_str(), 3000000, 4000000) == 0);
  const timespec before_1970[2] = {{-6, 250'000'000}, {-6, 250'000'000}};
  REQUIRE(::utimensat(AT_FDCWD, (dir / "t/old").c_str(), before_1970, 0) == 0);
  REQUIRE(::lchown((dir / "t/s").c_str(), 5, 6) == 0);
  REQUIRE(::mknod((dir / "t/dev").c_str(), S_IFCHR | 0600, makedev(1, 3)) == 0);
  StackOptions stack_options;
  stack_options.lowers = {dir / "t"};
  const auto stack = LayerStack::open(stack_options);
  REQUIRE(stack);
  const auto view = MergedView::open(*stack, {});
  const auto nothing = MergedView::open(*stack, {1, -1});
  REQUIRE(view);
  REQUIRE(nothing);
  for (const Codec codec : {Codec::None, Codec::Gzip, Codec::Zstd}) {
    StringSink sink;
    PackOptions pack;
    pack.compression = {codec, std::nullopt};
    const auto packed = pack_layer(*nothing, *view, sink, pack);
    REQUIRE(packed);
    Target target;
    const auto done = target.unpack(sink.text, WhiteoutForm::DotWh, packed->info.diff_id);
    INFO((done ? "" : done.error().message));
    REQUIRE(done);
    CHECK(done->losses.empty());
    testlib::ManifestOptions options;
    options.no_mtime_below = {};
    auto before = testlib::scan_tree(dir / "t", options);
    auto after = testlib::scan_tree(target.dir() / "in", options);
    // A tar has no entry for the root.
    before.entries.erase(before.entries.begin());
    after.entries.erase(after.entries.begin());
    CHECK(testlib::describe_differences(before, after, options, 20) == std::vector<std::string>());
    CHECK(stat_of(target.in("zeros")).st_blocks * 512 < 100000);
  }
}

TEST_CASE("unpack: marks in attributes are not taken over") {
  Target target;
  const auto done = target.unpack(tar_text(
      {"a#user.overlay.redirect=/x", "b#user.good=1", "c#user.containers.override_stat=0:0:777"}));
  REQUIRE(done);
  CHECK(done->losses.size() == (has_user_xattrs() ? 2 : 3));
  char value[64];
  CHECK(::getxattr(target.in("a").c_str(), "user.overlay.redirect", value, sizeof value) < 0);
}

TEST_CASE("unpack: with override_stat owners, modes and devices are kept in the attribute") {
  if (!has_user_xattrs()) {
    SKIP_TEST("no user attributes on the filesystem of /var/tmp");
  }
  Target target;
  target.override_stat = true;
  const auto done = target.unpack(tar_text({"dev%c1.3", "f=1", "d/", "d/p|"}));
  INFO((done ? "" : done.error().message));
  REQUIRE(done);
  char value[64] = {};
  CHECK(::getxattr(target.in("dev").c_str(), override_stat_xattr(OverrideForm::Containers), value,
                   sizeof value) > 0);
  CHECK(std::string(value) == "0:0:0644:char-1-3");
  CHECK(S_ISREG(stat_of(target.in("dev")).st_mode));
  CHECK((stat_of(target.in("d")).st_mode & 0700) == 0700);
}
