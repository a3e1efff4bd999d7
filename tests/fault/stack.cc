#include "tests/fault/stack.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <stdexcept>

#include "tests/testlib/files.h"
#include "tests/testlib/tree_maker.h"
#include "tests/testlib/tree_manifest.h"

namespace layerfs::fault {
namespace {

namespace fs = std::filesystem;
using testing::make_tree;
using testlib::ManifestOptions;

constexpr std::int64_t kMadeAt = 1000000000;  // make_tree's

void require(int result, const std::string& what) {
  if (result < 0) {
    throw std::runtime_error(what + ": " + std::strerror(errno));
  }
}

void set_made(const std::string& path) {
  const timespec times[2] = {{kMadeAt, 0}, {kMadeAt, 0}};
  require(::utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW), path);
}

void make_whiteout(const std::string& dir, const std::string& name, bool oci) {
  const std::string path = dir + (oci ? "/.wh." : "/") + name;
  require(oci ? ::mknod(path.c_str(), S_IFREG | 0644, 0)
              : ::mknod(path.c_str(), S_IFCHR, makedev(0, 0)),
          path);
  set_made(dir);
}

void make_lowers(const std::string& base) {
  const std::string bottom = base + "/l1";
  const std::string top = base + "/l0";
  std::string data;
  while (data.size() < 10000) {
    data += "line " + std::to_string(data.size()) + "\n";
  }
  make_tree(bottom, {"d/f1=" + data,
                     "d/f2=two",
                     "d/f3=hidden",
                     "d/sub/g=gg",
                     "m/a=a",
                     "m/b=b",
                     "m/c/x=x",
                     "e/",
                     "e2/",
                     "full/x=x",
                     "lnk->d/f1",
                     "fifo|",
                     "h/1=linked",
                     "h/2==h/1",
                     "h/3==h/1",
                     "g/1=pair",
                     "g/2==g/1",
                     "suid=su",
                     "suid@4755",
                     "attr=v",
                     "attr#user.a=1",
                     "zero=",
                     "gone=hidden",
                     "goned/x=hidden",
                     "op/hidden=hidden",
                     "wh=hidden",
                     "whd/x=hidden",
                     "wh2=hidden",
                     "both=low",
                     "both2=low",
                     "bothd/x=x",
                     "p/q=q",
                     "p/uq=low",
                     "etc/hostname=image",
                     "etc/passwd=image",
                     "etc/hid=hidden",
                     "etc/hidd/x=hidden"});
  make_tree(top, {"d/f3=three", "d/f4=four", "m/d=d", "op/seen=seen", "m/c/y=y"});
  make_whiteout(top, "gone", false);
  make_whiteout(top, "goned", false);
  require(::setxattr((top + "/op").c_str(), "trusted.overlay.opaque", "y", 1, 0), "opaque");
  const std::string sparse = bottom + "/sparse";
  testing::write_file(sparse, "head");
  require(::truncate(sparse.c_str(), 1 << 20), sparse);
  const std::string device = bottom + "/null";
  require(::mknod(device.c_str(), S_IFCHR | 0666, makedev(1, 3)), device);
  const std::string socket = bottom + "/sock";
  require(::mknod(socket.c_str(), S_IFSOCK | 0644, 0), socket);
  for (const std::string& path : {sparse, device, socket, bottom, top}) {
    set_made(path);
  }
}

std::string lines_of(const std::string& root) {
  ManifestOptions options;
  options.times_of_access = true;
  options.times_of_change = true;
  options.inode_numbers = true;
  std::string text;
  const testlib::Manifest manifest = testlib::scan_tree(root, options);
  for (const auto& entry : manifest.entries) {
    text += testlib::format_entry(entry, options) + "\n";
  }
  for (const std::string& error : manifest.errors) {
    text += error + "\n";
  }
  return text;
}

// The first line in which two texts differ.
std::string first_difference(const std::string& a, const std::string& b) {
  std::size_t start = 0;
  for (std::size_t i = 0; i < a.size() && i < b.size() && a[i] == b[i]; ++i) {
    start = a[i] == '\n' ? i + 1 : start;
  }
  return "- " + a.substr(start, a.find('\n', start) - start) + "\n+ " +
         b.substr(start, b.find('\n', start) - start);
}

std::string text_of(const Object& object) {
  return object.look + " links=" + std::to_string(object.links) +
         (object.linked.empty() ? "" : " same as " + object.linked);
}

bool match_one(const Object& expected, const Object& seen, Match match) {
  const bool links = match == Match::LinksHigh && !expected.is_directory
                         ? seen.links >= expected.links
                         : seen.links == expected.links;
  return seen.look == expected.look && links &&
         (match == Match::EachName || seen.linked == expected.linked);
}

std::vector<std::string> differences(const Tree& expected, const Tree& seen, Match match) {
  std::vector<std::string> lines;
  for (const auto& [path, object] : expected.objects) {
    const auto found = seen.objects.find(path);
    if (found == seen.objects.end()) {
      lines.push_back("missing:    " + text_of(object));
    } else if (!match_one(object, found->second, match)) {
      lines.push_back("expected:   " + text_of(object));
      lines.push_back("seen:       " + text_of(found->second));
    }
  }
  for (const auto& [path, object] : seen.objects) {
    if (!expected.objects.contains(path)) {
      lines.push_back("unexpected: " + text_of(object));
    }
  }
  return lines;
}

// Names that are as in none of the trees.
std::vector<std::string> odd_names(const std::vector<Tree>& allowed, const Tree& seen) {
  std::vector<std::string> lines;
  std::set<std::string> names;
  for (const Tree& tree : allowed) {
    for (const auto& [path, object] : tree.objects) {
      names.insert(path);
    }
  }
  for (const auto& [path, object] : seen.objects) {
    names.insert(path);
  }
  for (const std::string& path : names) {
    const auto found = seen.objects.find(path);
    bool fits = false;
    for (const Tree& tree : allowed) {
      const auto expected = tree.objects.find(path);
      const bool absent = expected == tree.objects.end();
      fits = fits || (found == seen.objects.end()
                          ? absent
                          : !absent && match_one(expected->second, found->second, Match::EachName));
    }
    if (!fits) {
      lines.push_back(found == seen.objects.end() ? "missing:    " + path
                                                  : "unexpected: " + text_of(found->second));
    }
  }
  return lines;
}

}  // namespace

const std::vector<Variant>& variants() {
  using Config = MountConfig;
  static const std::vector<Variant> all = {
      {"cached", [](Config& c) { c.io = Config::Io::Cached; }},
      {"passthrough", [](Config& c) { c.io = Config::Io::Passthrough; }},
      {"oci",
       [](Config& c) {
         c.io = Config::Io::Cached;
         c.whiteout = Config::Whiteout::Oci;
       }},
      {"user",
       [](Config& c) {
         c.io = Config::Io::Cached;
         c.xattr = Config::Xattr::User;
       }},
      {"override",
       [](Config& c) {
         c.io = Config::Io::Cached;
         c.xattr = Config::Xattr::User;
         c.override_stat = Config::OverrideStat::On;
       }},
      {"full",
       [](Config& c) {
         c.io = Config::Io::Passthrough;
         c.metacopy = false;
       }},
      {"volatile",
       [](Config& c) {
         c.io = Config::Io::Passthrough;
         c.volatile_ = true;
       }},
  };
  return all;
}

Tree look_at(const std::string& root) {
  ManifestOptions options;
  options.mtimes = false;
  options.directory_nlink = false;
  options.check_directory_entries = true;
  Tree tree;
  testlib::Manifest manifest = testlib::scan_tree(root, options);
  tree.errors = manifest.errors;
  for (testlib::ManifestEntry& entry : manifest.entries) {
    Object object;
    object.is_directory = S_ISDIR(entry.status.st_mode);
    object.links = entry.status.st_nlink;
    object.is_new = entry.status.st_mtim.tv_sec != kMadeAt;
    object.ino = entry.status.st_ino;
    object.linked = entry.hard_link_group;
    entry.status.st_nlink = 0;
    entry.hard_link_group.clear();
    object.look = testlib::format_entry(entry, options);
    tree.objects[entry.path] = object;
  }
  return tree;
}

std::vector<std::string> compare(const std::vector<Tree>& allowed, const Tree& seen, Match match) {
  std::vector<std::string> least = odd_names(allowed, seen);
  if (match != Match::EachName) {
    least = differences(allowed.front(), seen, match);
    for (const Tree& tree : allowed) {
      std::vector<std::string> lines = differences(tree, seen, match);
      if (lines.size() < least.size()) {
        least = std::move(lines);
      }
    }
  }
  least.insert(least.end(), seen.errors.begin(), seen.errors.end());
  for (const auto& [path, object] : seen.objects) {
    bool fits = false;
    for (const Tree& tree : allowed) {
      const auto found = tree.objects.find(path);
      fits = fits || found == tree.objects.end() || found->second.is_new == object.is_new ||
             (object.is_directory && object.is_new);
    }
    if (!fits) {
      least.push_back("mtime of " + path + (object.is_new ? " is new" : " is old"));
    }
  }
  return least;
}

Stack::Stack(const std::string& base, const Variant& variant, const std::string& place)
    : base_(base), place_(place.empty() ? base : place), variant_(variant) {
  make_lowers(base);
  fs::create_directory(root());
  lowers_ = lines_of(base_ + "/l0") + lines_of(base_ + "/l1");
}

void Stack::renew() {
  for (const std::string& path :
       {upper(), place_ + "/w", base_ + "/i", base_ + "/.i.layerfs-work"}) {
    fs::remove_all(path);
  }
  make_tree(upper(), {"uf=upper", "uf2=upper2", "ud/x=x", "ue/", "ue2/", "both=up", "both2=up",
                      "bothd/y=y", "p/uq=up", "p/un=un", "full/"});
  MountConfig mount;
  variant_.set(mount);
  const bool oci = mount.whiteout == MountConfig::Whiteout::Oci;
  for (const char* name : {"wh", "wh2", "whd"}) {
    make_whiteout(upper(), name, oci);
  }
  // Emptied: a directory of the lower whose only entry is deleted.
  make_whiteout(upper() + "/full", "x", oci);
  const std::string init = base_ + "/i";
  make_tree(init, {"etc/hostname=container", "etc/only=init", "private/f=init", "private/s/g=g"});
  make_whiteout(init + "/etc", "hid", oci);
  make_whiteout(init + "/etc", "hidd", oci);
}

MountConfig Stack::config(bool init) const {
  MountConfig config;
  config.lowers = {base_ + "/l0", base_ + "/l1"};
  config.upper = upper();
  config.work = place_ + "/w";
  config.init = init ? base_ + "/i" : "";
  config.mountpoint = root();
  config.foreground = true;
  config.log_level = MountConfig::LogLevel::Error;
  config.log_file = base_ + "/log";
  config.threads = 1;
  variant_.set(config);
  return config;
}

std::vector<std::string> Stack::leftovers() const {
  std::vector<std::string> names;
  for (const std::string& work : {place_ + "/w/work", base_ + "/.i.layerfs-work/work"}) {
    if (!fs::exists(work)) {
      continue;
    }
    for (const auto& entry : fs::directory_iterator(work)) {
      if (entry.path().filename() != "incompat") {
        names.push_back(entry.path());
      }
    }
  }
  return names;
}

std::vector<std::string> Stack::findings(bool init) const {
  const std::string command = program("layerfs") + " check " + upper() + " --work " + place_ +
                              "/w --lower " + (init ? base_ + "/i:" : "") + base_ + "/l0:" + base_ +
                              "/l1 --json 2>&1";
  FILE* const pipe = ::popen(command.c_str(), "re");
  std::vector<std::string> lines;
  std::string last;
  std::array<char, 4096> line{};
  while (pipe != nullptr && std::fgets(line.data(), line.size(), pipe) != nullptr) {
    std::string text = line.data();
    text.erase(text.find_last_not_of('\n') + 1);
    if (text.starts_with("{")) {
      lines.push_back(text);
    } else {
      last = text;
    }
  }
  const int status = pipe == nullptr ? -1 : ::pclose(pipe);
  if (status != 0 && lines.empty()) {
    lines.push_back(last);
  }
  return lines;
}

std::vector<std::string> Stack::lowers_changed() const {
  const std::string now = lines_of(base_ + "/l0") + lines_of(base_ + "/l1");
  return now == lowers_ ? std::vector<std::string>()
                        : std::vector<std::string>{first_difference(lowers_, now)};
}

}  // namespace layerfs::fault
