// Any bytes as whatever layerfs parses: attributes of layers, options, configurations,
// documents of images. Nothing crashes or hangs; what was understood is written back as the
// same; what may lead out of a layer is refused.
#include <fcntl.h>
#include <sys/xattr.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "layers/acl.h"
#include "layers/link_index.h"
#include "layers/override_stat.h"
#include "layers/path_text.h"
#include "tests/fuzz/target.h"
#include "tests/testlib/files.h"
#include "tools/common/mount_table.h"
#include "tools/common/syntax.h"
#include "tools/layerfs/commit_options.h"
#include "tools/layerfs/mount_options.h"
#include "tools/oci/document.h"
#include "tools/oci/image.h"
#include "tools/oci/image_reference.h"
#include "tools/run/cgroup_limits.h"
#include "tools/run/id_map.h"
#include "tools/run/option_syntax.h"
#include "tools/run/seccomp_profile.h"
#include "whiteout/marks.h"

using namespace layerfs;

namespace {

void require(bool holds, const char* what) {
  if (!holds) {
    std::fprintf(stderr, "does not hold: %s\n", what);
    std::abort();
  }
}

// As arguments of a program, which have no zero bytes.
std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> lines(1);
  for (const char c : text) {
    if (c == '\n') {
      lines.emplace_back();
    } else if (c != '\0') {
      lines.back() += c;
    }
  }
  return lines;
}

void redirect(std::string_view text) {
  if (const auto components = parse_redirect(text)) {
    for (const std::string& component : *components) {
      require(is_valid_component(component), "a redirect is of names");
    }
  }
}

void owner(std::string_view text) {
  if (const auto stat = parse_override_stat(text)) {
    const auto again = parse_override_stat(format_override_stat(*stat));
    require(again && (!stat->has_type() || *again == *stat), "an owner is written as it is read");
  }
}

void index(std::string_view text) {
  if (const auto key = parse_index_name(text)) {
    const auto again = parse_index_name(format_index_name(*key));
    require(again && *again == *key, "a name in the index is written as it is read");
  }
  const int delta = parse_link_delta(text);
  require(parse_link_delta(format_link_delta(delta)) == delta, "a count is written as it is read");
}

void acl(std::string_view text) {
  const std::string value(text);
  static const auto ids = IdMap::from_triples({{{0, 1000, 1}, {1, 100000, 65536}}}, 65534);
  for (const bool directory : {false, true}) {
    const auto inherited = inherit_acl(value, 0777, 022, directory);
    require(!inherited || (inherited->mode & ~mode_t{07777}) == 0, "an ACL gives permissions");
  }
  const auto mode = mode_of_acl(value);
  if (mode && *mode) {
    const auto stored = acl_with_mode(value, **mode);
    const auto again = stored ? mode_of_acl(*stored) : mode;
    require(again && *again == *mode, "an ACL with its own mode has that mode");
  }
  if (const auto stored = acl_on_disk(value, *ids, *ids)) {
    require(stored->size() == value.size(), "a mapped ACL has the same entries");
  }
  const auto shown = acl_shown(value, *ids, *ids);
  require(!shown || shown->size() == value.size(), "a mapped ACL has the same entries");
}

// As attributes of a file: each in turn gets the value.
void marks(std::string_view text) {
  static const testing::TempDir dir(testing::quick_parent());
  static const int fd = ::open(dir.at("file").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  const std::size_t divide = text.empty() ? 0 : static_cast<unsigned char>(text[0]);
  const std::string_view first = text.substr(0, divide);
  const std::string_view second = text.substr(first.size());
  for (const auto& [name, value] :
       {std::pair{"user.overlay.layerfs.origin", first}, std::pair{"user.overlay.redirect", second},
        std::pair{"user.overlay.nlink", first}, std::pair{"user.overlay.metacopy", second}}) {
    ::fsetxattr(fd, name, value.data(), value.size(), 0);
  }
  const auto read = read_file_marks({fd}, 1);
  require(!read || !read->nlink || parse_link_delta(*read->nlink) < 0x7fffffff, "a count is one");
}

void configuration(std::string_view text) {
  std::string why;
  if (const auto config = parse_mount_config(text, why)) {
    const auto again = parse_mount_config(to_json_text(*config), why);
    require(again && *again == *config, "a configuration is written as it is read");
  } else {
    require(!why.empty(), "a refusal says why");
  }
}

void options(std::string_view text) {
  MountOptions mount;
  const auto lines = lines_of(text);
  const auto words = mount.add_words(
      lines.front(), lines.size() % 2 == 0 ? UnknownWords::Refuse : UnknownWords::Ignore);
  if (!words || !mount.take_positionals({lines.begin() + 1, lines.end()})) {
    return;
  }
  if (const auto config = mount.finish()) {
    std::string why;
    const auto again = parse_mount_config(to_json_text(*config), why);
    require(again && *again == *config, "the daemon gets the configuration that was asked for");
  }
}

void mount_arguments(std::string_view text) {
  const auto lines = lines_of(text);
  MountOptions mount;
  const Command command{"layerfs mount", {}, "", mount.groups()};
  if (const auto parsed = parse_arguments(command, lines); parsed && !parsed->help) {
    if (mount.take_positionals(parsed->positionals)) {
      (void)mount.finish();
    }
  }
}

void commit_arguments(std::string_view text) {
  CommitOptions commit;
  (void)parse_arguments(commit.command(), lines_of(text));
  (void)commit.check();
}

void syntax(std::string_view text) {
  (void)unescape_path(text);
  if (const auto layers = split_layers(text)) {
    for (const std::string& layer : *layers) {
      require(!layer.empty(), "a layer has a name");
    }
  }
  (void)split_mount_words(text);
  (void)parse_id(text);
  (void)parse_int(text, -5, 5);
  (void)parse_size(text);
  (void)parse_switch(text);
  (void)parse_mountinfo(text);
  const auto seconds = parse_seconds(text);
  require(!seconds || *seconds >= 0, "seconds are not negative");
  if (const auto map = parse_id_map(text)) {
    for (const IdRange& range : *map) {
      require(range.count > 0, "a range has ids");
    }
  }
}

void container(std::string_view text) {
  using namespace layerfs::run;
  const std::string copy(text);
  (void)parse_volume(text, "/here");
  (void)parse_tmpfs(text);
  (void)parse_ulimit(text);
  (void)parse_environment_file(text);
  (void)parse_environment(text);
  (void)parse_rate(text);
  (void)parse_port(text);
  (void)parse_hostname(text);
  (void)parse_device(text);
  (void)subordinate_ids(text, "user", 1000);
}

void seccomp(std::string_view text) { (void)run::parse_seccomp_profile(text, 0); }

void image(std::string_view text) {
  using namespace layerfs::oci;
  (void)Digest::parse(text);
  if (const auto reference = parse_image_reference(text)) {
    const auto again = parse_image_reference(reference->text());
    require(again && again->path == reference->path && again->name == reference->name,
            "an image is named as it is read");
  }
  (void)full_docker_name(std::string(text));
  (void)check_tag(std::string(text));
  if (const auto document = parse_document(text, "DOCUMENT")) {
    (void)parse_descriptor(*document, "DOCUMENT");
    (void)parse_manifest(*document, "DOCUMENT");
    (void)choose_by_platform(*document, "DOCUMENT");
    (void)diff_ids(*document, "DOCUMENT");
    const std::string printed = print_document(*document);
    const auto again = parse_document(printed, "DOCUMENT");
    require(again && print_document(*again) == printed, "a document is written as it is read");
  }
}

struct Parser {
  void (*parse)(std::string_view);
  std::vector<std::string> seeds;
};

const std::vector<Parser>& parsers() {
  using namespace std::string_literals;
  static const std::vector<Parser> all = {
      {redirect, {"/lower/dir", "name", "../../etc"}},
      {owner, {"1000:1000:0100644:file", "0:0:020644:char-1-3"}},
      {index, {"0000000000000abc-00000000000000ff", "U+3"}},
      // user::rwx, user:1000:rwx, group::r-x, mask::rwx, other::r-x
      {acl,
       {"\2\0\0\0\1\0\7\0\xff\xff\xff\xff\2\0\7\0\xe8\3\0\0\4\0\5\0\xff\xff\xff\xff"
        "\x10\0\7\0\xff\xff\xff\xff\x20\0\5\0\xff\xff\xff\xff"s}},
      {marks, {"\x18v1 abcdef0123456789 1 10/to/data"}},
      {configuration,
       {R"({"lowers":["/l1","/l2"],"upper":"/u","mountpoint":"/m","io":"cached",)"
        R"("uid_map":[[0,1000,1]]})"}},
      {options,
       {"lowerdir=/l1:/l2,upperdir=/u,workdir=/w,noatime,metacopy=off,\"x-a=b,c\","
        "uidmapping=0:1000:1\n/m"}},
      {syntax,
       {"0:1000:1:1:100000:65536", "/a\\:b:/c",
        "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue"}},
      {mount_arguments, {"--io\npassthrough\n--whiteout=oci\n-f\n--\n/l1:/l2\n/u\n/m"}},
      {container,
       {"/from:/to:ro,nosuid,rshared", "nofile=64:1024", "c 1:3 rwm", "10.0.0.1:8080:80/udp"}},
      {seccomp,
       {R"({"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86_64"],"syscalls":[)"
        R"({"names":["read","clone"],"action":"SCMP_ACT_ALLOW",)"
        R"("args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"}]}]})"}},
      {image,
       {"oci:dir:tag", "oci:dir\\:x:tag",
        R"({"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":)"
        R"({"mediaType":"application/vnd.oci.image.config.v1+json","digest":)"
        R"("sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef","size":7},)"
        R"("layers":[]})"}},
      {commit_arguments, {"-o\nx.tar.gz\n--change\nCMD [\"/app\"]\n/m"}}};
  return all;
}

}  // namespace

std::vector<std::string> layerfs::testing::fuzz_seeds() {
  std::vector<std::string> seeds;
  for (char letter = 'a'; const Parser& parser : parsers()) {
    for (const std::string& seed : parser.seeds) {
      seeds.push_back(letter + seed);
    }
    ++letter;
  }
  return seeds;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) {
    return 0;
  }
  // A letter, so that a person can write one.
  const std::size_t choice = (data[0] - static_cast<unsigned>('a')) % parsers().size();
  parsers()[choice].parse({reinterpret_cast<const char*>(data) + 1, size - 1});
  return 0;
}
