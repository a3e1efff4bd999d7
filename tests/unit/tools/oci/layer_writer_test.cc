// Directories in, the entries of a tar out, as libarchive reads them.
#include "tools/oci/layer_writer.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <catch2/catch.hpp>
#include <memory>

#include "tests/testlib/tree_maker.h"
#include "tools/oci/pack.h"

using namespace layerfs;
using namespace layerfs::oci;
using namespace layerfs::testing;
using Lines = std::vector<std::string>;

namespace {

class StringSink : public ByteSink {
 public:
  Fallible<void> write(std::string_view bytes) override {
    text += bytes;
    return {};
  }
  std::string text;
};

std::string line_of(archive* reader, archive_entry* entry) {
  std::string out = archive_entry_pathname(entry);
  if (const char* target = archive_entry_hardlink(entry)) {
    return out + " == " + target;
  }
  if (const char* target = archive_entry_symlink(entry)) {
    return out + " -> " + target;
  }
  if (archive_entry_filetype(entry) == AE_IFREG && archive_entry_size(entry) > 0) {
    std::string data(static_cast<std::size_t>(archive_entry_size(entry)), '\0');
    REQUIRE(archive_read_data(reader, data.data(), data.size()) ==
            static_cast<la_ssize_t>(data.size()));
    out += "=" + data;
  }
  archive_entry_xattr_reset(entry);
  const char* name = nullptr;
  const void* value = nullptr;
  std::size_t size = 0;
  while (archive_entry_xattr_next(entry, &name, &value, &size) == ARCHIVE_OK) {
    out += " #" + std::string(name) + "=" + std::string(static_cast<const char*>(value), size);
  }
  return out;
}

Lines read_tar(const std::string& tar) {
  Lines lines;
  const std::unique_ptr<archive, int (*)(archive*)> reader(archive_read_new(), archive_read_free);
  archive_read_support_format_tar(reader.get());
  REQUIRE(archive_read_open_memory(reader.get(), tar.data(), tar.size()) == ARCHIVE_OK);
  archive_entry* entry = nullptr;
  int result = ARCHIVE_OK;
  while ((result = archive_read_next_header(reader.get(), &entry)) == ARCHIVE_OK) {
    lines.push_back(line_of(reader.get(), entry));
  }
  CHECK(result == ARCHIVE_EOF);
  return lines;
}

struct Made {
  std::string tar;
  std::vector<Loss> losses;
};

Made pack(const std::vector<std::string>& layers, PackOptions options = {}) {
  options.compression.codec = Codec::None;
  StackOptions stack_options;
  stack_options.lowers = layers;
  auto stack = LayerStack::open(stack_options);
  REQUIRE(stack);
  const auto now = MergedView::open(*stack, {});
  const auto before = MergedView::open(*stack, {1, -1});
  REQUIRE((now && before));
  StringSink sink;
  auto packed = pack_layer(*before, *now, sink, options);
  if (!packed) {
    FAIL(packed.error().message);
  }
  std::vector<Loss> losses;
  REQUIRE(packed->losses.for_each([&losses](const Loss& loss) -> Fallible<void> {
    losses.push_back(loss);
    return {};
  }));
  return {sink.text, losses};
}

}  // namespace

TEST_CASE("layer: opaque marks and whiteouts before the entries beside them") {
  const TempDir dir;
  make_tree(dir / "l", {"d/gone=1", "d/x=1", "e/old=1", "zz=1"});
  make_tree(dir / "u", {".wh.zz=", "d/.wh.gone=", "d/a=A",
                        "e/.wh..wh..opq=", "e/.wh.old=", "e/new=N", "s->target", "p|"});
  CHECK(read_tar(pack({dir / "u", dir / "l"}).tar) == Lines{".wh.zz", "d/", "d/.wh.gone", "d/a=A",
                                                            "e/", "e/.wh..wh..opq", "e/new=N", "p",
                                                            "s -> target"});
}

TEST_CASE("layer: explicit whiteouts name each deletion in a replaced directory") {
  const TempDir dir;
  make_tree(dir / "l", {"e/old=1", "e/same=1"});
  make_tree(dir / "u", {"e/.wh..wh..opq=", "e/new=N", "e/same=1"});
  PackOptions options;
  options.explicit_whiteouts = true;
  CHECK(read_tar(pack({dir / "u", dir / "l"}, options).tar) == Lines{"e/", "e/.wh.old", "e/new=N"});
}

TEST_CASE("layer: names of one inode are links in it, in whatever layer the inode is") {
  const TempDir dir;
  make_tree(dir / "l", {"x=1"});
  make_tree(dir / "u", {"a=A", "b==a", "c/d==a"});
  CHECK(read_tar(pack({dir / "u", dir / "l"}).tar) == Lines{"a=A", "b == a", "c/", "c/d == a"});
}

TEST_CASE("layer: two directories with the same content are the same bytes") {
  const TempDir dir;
  const std::vector<std::string> words = {"d/b=1", "d/a=22", "d/c->a", "e/f==d/a", "d/.wh.gone="};
  const std::vector<std::string> reversed = {"d/.wh.gone=", "e/f=22", "d/a==e/f", "d/c->a",
                                             "d/b=1"};
  make_tree(dir / "l", {"d/gone=1"});
  make_tree(dir / "u1", words);
  make_tree(dir / "u2", reversed);
  const std::string tar = pack({dir / "u1", dir / "l"}).tar;
  CHECK(tar == pack({dir / "u2", dir / "l"}).tar);
  CHECK(tar.size() % 512 == 0);
  CHECK(tar.ends_with(std::string(1024, '\0')));
}

TEST_CASE("layer: attributes of users are in it, marks are not") {
  if (!has_user_xattrs()) {
    WARN("SKIP: no user attributes in the temporary directory");
    return;
  }
  const TempDir dir;
  make_tree(dir / "l", {"x=1"});
  make_tree(dir / "u", {"a=A", "a#user.k=v", "a#user.overlay.origin=o",
                        "a#user.fuseoverlayfs.origin=o", "b=", "b#user.empty="});
  const Made made = pack({dir / "u", dir / "l"});
  CHECK(read_tar(made.tar) == Lines{"a=A #user.k=v", "b"});
  REQUIRE(made.losses.size() == 1);
  CHECK(made.losses[0].path == "b");
}

TEST_CASE("layer: override_stat is applied, not stored") {
  if (!has_user_xattrs()) {
    WARN("SKIP: no user attributes in the temporary directory");
    return;
  }
  const TempDir dir;
  make_tree(dir / "l", {"x=1"});
  make_tree(dir / "u", {"#user.containers.override_stat=0:0:0755:dir",
                        "dev=", "dev#user.containers.override_stat=7:8:0640:char-1-3"});
  const std::string tar = pack({dir / "u", dir / "l"}).tar;
  const std::unique_ptr<archive, int (*)(archive*)> reader(archive_read_new(), archive_read_free);
  archive_read_support_format_tar(reader.get());
  REQUIRE(archive_read_open_memory(reader.get(), tar.data(), tar.size()) == ARCHIVE_OK);
  archive_entry* entry = nullptr;
  REQUIRE(archive_read_next_header(reader.get(), &entry) == ARCHIVE_OK);
  CHECK(archive_entry_uid(entry) == 7);
  CHECK(archive_entry_gid(entry) == 8);
  CHECK(archive_entry_mode(entry) == (S_IFCHR | 0640));
  CHECK(archive_entry_rdevmajor(entry) == 1);
  CHECK(archive_entry_rdevminor(entry) == 3);
  CHECK(archive_entry_xattr_count(entry) == 0);
}

TEST_CASE("layer: a socket is left out and listed") {
  const TempDir dir;
  make_tree(dir / "l", {"x=1"});
  make_tree(dir / "u", {"a=1"});
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  (dir / "u/sock").copy(address.sun_path, sizeof(address.sun_path) - 1);
  const UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM, 0));
  REQUIRE(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
  const Made made = pack({dir / "u", dir / "l"});
  CHECK(read_tar(made.tar) == Lines{"a=1"});
  REQUIRE(made.losses.size() == 1);
  CHECK(made.losses[0].path == "sock");
}

TEST_CASE("layer: times are exact, cut, capped or set") {
  const TempDir dir;
  make_tree(dir / "l", {"x=1"});
  make_tree(dir / "u", {"a=1", "a~1500000000.25"});
  const auto mtime = [&](const PackOptions& options) {
    const std::string tar = pack({dir / "u", dir / "l"}, options).tar;
    const std::unique_ptr<archive, int (*)(archive*)> reader(archive_read_new(), archive_read_free);
    archive_read_support_format_tar(reader.get());
    archive_read_open_memory(reader.get(), tar.data(), tar.size());
    archive_entry* entry = nullptr;
    REQUIRE(archive_read_next_header(reader.get(), &entry) == ARCHIVE_OK);
    return static_cast<double>(archive_entry_mtime(entry)) +
           static_cast<double>(archive_entry_mtime_nsec(entry)) / 1e9;
  };
  PackOptions options;
  CHECK(mtime(options) == 1500000000.25);
  options.writer.times.whole_seconds = true;
  CHECK(mtime(options) == 1500000000);
  options.writer.times = {};
  options.writer.times.latest = 1400000000;
  CHECK(mtime(options) == 1400000000);
  options.writer.times.latest = 1600000000;
  CHECK(mtime(options) == 1500000000.25);
  options.writer.times.exact = 5;
  CHECK(mtime(options) == 5);
}

TEST_CASE("layer: an owner without an id here is an error that names the file") {
  const TempDir dir;
  make_tree(dir / "l", {"x=1"});
  make_tree(dir / "u", {"d/a=1"});
  StackOptions stack_options;
  stack_options.lowers = {dir / "u", dir / "l"};
  const auto stack = LayerStack::open(stack_options);
  REQUIRE(stack);
  const auto now = MergedView::open(*stack, {});
  const auto before = MergedView::open(*stack, {1, -1});
  PackOptions options;
  options.writer.unmapped_uid = stat_of(dir / "u/d").st_uid;
  StringSink sink;
  const auto packed = pack_layer(*before, *now, sink, options);
  REQUIRE_FALSE(packed);
  CHECK(packed.error().message.find("'/d'") == 0);
}

TEST_CASE("layer: content of a volume is left out, its directory is not") {
  const TempDir dir;
  make_tree(dir / "l", {"x=1"});
  make_tree(dir / "u", {"vol/a=1", "vol/b/c=1", "vol-not/d=1"});
  PackOptions options;
  options.writer.without_content = {"vol"};
  CHECK(read_tar(pack({dir / "u", dir / "l"}, options).tar) ==
        Lines{"vol/", "vol-not/", "vol-not/d=1"});
}

TEST_CASE("layer: nothing changed is an empty archive") {
  const TempDir dir;
  make_tree(dir / "l", {"x=1"});
  make_tree(dir / "u", {"x=1"});
  CHECK(pack({dir / "u", dir / "l"}).tar == std::string(1024, '\0'));
}

TEST_CASE("unmapped ids: those that the map leaves out") {
  const TempDir dir;
  write_file(dir / "overflow", "65534\n");
  write_file(dir / "all", "         0          0 4294967295\n");
  write_file(dir / "one", "         0       1000          1\n");
  CHECK(unmapped_id((dir / "all").c_str(), (dir / "overflow").c_str()).value() == std::nullopt);
  CHECK(unmapped_id((dir / "one").c_str(), (dir / "overflow").c_str()).value() == 65534U);
  CHECK_FALSE(unmapped_id((dir / "one").c_str(), (dir / "none").c_str()));
}
