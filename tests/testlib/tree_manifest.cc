#include "tests/testlib/tree_manifest.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <memory>
#include <utility>

#include <dirent.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace layerfs::testlib {
namespace {

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  int get() const { return number_; }
  bool is_open() const { return number_ >= 0; }

 private:
  int number_;
};

bool is_at_or_below(std::string_view path, std::string_view top) {
  if (top == ".") return true;
  if (!path.starts_with(top)) return false;
  return path.size() == top.size() || path[top.size()] == '/';
}

bool is_any_at_or_below(std::string_view path, const std::vector<std::string>& tops) {
  return std::any_of(tops.begin(), tops.end(),
                     [&](const std::string& top) { return is_at_or_below(path, top); });
}

// O_NOATIME is refused for files of others (EPERM).
Descriptor open_quietly(int directory, const char* name, int flags) {
  Descriptor opened(::openat(directory, name, flags | O_NOFOLLOW | O_CLOEXEC | O_NOATIME));
  if (opened.is_open() || errno != EPERM) return opened;
  return Descriptor(::openat(directory, name, flags | O_NOFOLLOW | O_CLOEXEC));
}

// The root of `path`, where permitted through a clone of the mount that never
// sets access times.
Descriptor open_root(const std::string& path, bool without_atime) {
  if (without_atime) {
    Descriptor clone(static_cast<int>(
        ::syscall(SYS_open_tree, AT_FDCWD, path.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)));
    if (clone.is_open()) {
      struct mount_attr attributes = {};
      attributes.attr_clr = MOUNT_ATTR__ATIME;
      attributes.attr_set = MOUNT_ATTR_NOATIME;
      if (::syscall(SYS_mount_setattr, clone.get(), "", AT_EMPTY_PATH, &attributes,
                    sizeof attributes) == 0) {
        Descriptor root(::openat(clone.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        if (root.is_open()) return root;
      }
    }
  }
  Descriptor root(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOATIME));
  if (root.is_open() || errno != EPERM) return root;
  return Descriptor(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

struct DirectoryCloser {
  void operator()(DIR* directory) const { ::closedir(directory); }
};

class Scan {
 public:
  Scan(const ManifestOptions& options, Manifest& manifest)
      : options_(options), manifest_(manifest), buffer_(kBufferBytes) {}

  void run(const std::string& root_path) {
    Descriptor root = open_root(root_path, options_.times_of_access);
    if (!root.is_open()) {
      fail(root_path, "cannot open");
      return;
    }
    ManifestEntry entry;
    entry.path = ".";
    if (::fstat(root.get(), &entry.status) != 0) {
      fail(root_path, "cannot stat");
      return;
    }
    read_xattrs(path_of(root.get(), "."), entry);
    manifest_.entries.push_back(std::move(entry));
    visit(std::move(root), "");
    group_hard_links();
    std::sort(manifest_.entries.begin(), manifest_.entries.end(),
              [](const ManifestEntry& a, const ManifestEntry& b) { return a.path < b.path; });
  }

 private:
  static constexpr std::size_t kBufferBytes = std::size_t{1} << 20;

  struct Listed {
    std::string name;
    ino_t ino;
    unsigned char type;
  };

  void fail(const std::string& path, std::string_view what) {
    manifest_.errors.push_back(escape_bytes(path) + ": " + std::string(what) + ": " +
                               std::strerror(errno));
  }

  // Extended attributes have no *at calls; the kernel resolves this one name
  // from the directory's descriptor, however deep it is.
  static std::string path_of(int directory, std::string_view name) {
    return "/proc/self/fd/" + std::to_string(directory) + "/" + std::string(name);
  }

  void visit(Descriptor directory, const std::string& path) {
    std::vector<Listed> listing = list(std::move(directory), path);
    for (Listed& listed : listing) {
      std::string child = path.empty() ? listed.name : path + "/" + listed.name;
      if (is_any_at_or_below(child, options_.exclude_below)) continue;
      visit_child(child, listed);
    }
    open_.pop_back();
  }

  // Leaves the open directory on top of open_.
  std::vector<Listed> list(Descriptor directory, const std::string& path) {
    std::vector<Listed> listing;
    std::unique_ptr<DIR, DirectoryCloser> stream(::fdopendir(::dup(directory.get())));
    open_.push_back(std::move(directory));
    const std::string shown = path.empty() ? "." : path;
    if (!stream) {
      fail(shown, "cannot list");
      return listing;
    }
    std::set<std::string> seen;
    for (;;) {
      errno = 0;
      const struct dirent* found = ::readdir(stream.get());
      if (found == nullptr) {
        if (errno != 0) fail(shown, "cannot list");
        break;
      }
      const std::string name = found->d_name;
      if (name == "." || name == "..") continue;
      if (!seen.insert(name).second) {
        manifest_.errors.push_back(escape_bytes(shown) + ": lists " + escape_bytes(name) +
                                   " twice");
        continue;
      }
      listing.push_back({name, found->d_ino, found->d_type});
    }
    return listing;
  }

  void visit_child(const std::string& path, const Listed& listed) {
    const int parent = open_.back().get();
    ManifestEntry entry;
    entry.path = path;
    struct statx extended = {};
    if (::statx(parent, listed.name.c_str(), AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT,
                STATX_BASIC_STATS, &extended) != 0 ||
        ::fstatat(parent, listed.name.c_str(), &entry.status, AT_SYMLINK_NOFOLLOW) != 0) {
      fail(path, "cannot stat");
      return;
    }
    if ((extended.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0) {
      entry.is_mount_point = true;
      manifest_.entries.push_back(std::move(entry));
      return;
    }
    if (options_.check_directory_entries) contradict(listed, entry);
    read_xattrs(path_of(parent, listed.name), entry);
    if (S_ISLNK(entry.status.st_mode)) read_link(parent, listed.name, entry);
    if (S_ISREG(entry.status.st_mode) && options_.content) hash(parent, listed.name, entry);
    const bool is_directory = S_ISDIR(entry.status.st_mode);
    manifest_.entries.push_back(std::move(entry));
    if (!is_directory) return;
    Descriptor child = open_quietly(parent, listed.name.c_str(), O_RDONLY | O_DIRECTORY);
    if (!child.is_open()) {
      fail(path, "cannot open");
      return;
    }
    visit(std::move(child), path);
  }

  static void contradict(const Listed& listed, ManifestEntry& entry) {
    if (listed.ino != entry.status.st_ino) entry.directory_entry_contradiction += "d_ino";
    if (listed.type != DT_UNKNOWN && listed.type != IFTODT(entry.status.st_mode))
      entry.directory_entry_contradiction += "d_type";
  }

  void read_xattrs(const std::string& proc_path, ManifestEntry& entry) {
    std::vector<char> names(65536);
    const ssize_t length = ::llistxattr(proc_path.c_str(), names.data(), names.size());
    if (length < 0) {
      if (errno != ENOTSUP) fail(entry.path, "cannot list the extended attributes");
      return;
    }
    const std::string_view all(names.data(), static_cast<std::size_t>(length));
    for (std::size_t at = 0; at < all.size();) {
      const std::string name(all.substr(at, all.find('\0', at) - at));
      at += name.size() + 1;
      const bool is_left_out =
          std::any_of(options_.no_xattr_prefixes.begin(), options_.no_xattr_prefixes.end(),
                      [&](const std::string& prefix) { return name.starts_with(prefix); });
      if (is_left_out) continue;
      std::vector<char> value(65536);
      const ssize_t size = ::lgetxattr(proc_path.c_str(), name.c_str(), value.data(), value.size());
      if (size < 0) {
        fail(entry.path, "cannot read the extended attribute " + name);
        continue;
      }
      entry.xattrs[name] = std::string(value.data(), static_cast<std::size_t>(size));
    }
  }

  void read_link(int parent, const std::string& name, ManifestEntry& entry) {
    std::array<char, 8192> target = {};
    const ssize_t length = ::readlinkat(parent, name.c_str(), target.data(), target.size());
    if (length < 0) {
      fail(entry.path, "cannot read the symlink");
      return;
    }
    entry.link_target.assign(target.data(), static_cast<std::size_t>(length));
  }

  void hash(int parent, const std::string& name, ManifestEntry& entry) {
    Descriptor file = open_quietly(parent, name.c_str(), O_RDONLY | O_NONBLOCK);
    if (!file.is_open()) {
      fail(entry.path, "cannot open");
      return;
    }
    XXH3_state_t state;
    XXH3_128bits_reset(&state);
    std::int64_t total = 0;
    for (;;) {
      const ssize_t length = ::read(file.get(), buffer_.data(), buffer_.size());
      if (length < 0) {
        fail(entry.path, "cannot read");
        return;
      }
      if (length == 0) break;
      total += length;
      XXH3_128bits_update(&state, buffer_.data(), static_cast<std::size_t>(length));
    }
    if (total != entry.status.st_size)
      manifest_.errors.push_back(escape_bytes(entry.path) + ": st_size is " +
                                 std::to_string(entry.status.st_size) + ", but " +
                                 std::to_string(total) + " bytes could be read");
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(&state));
    for (const unsigned char byte : canonical.digest) {
      std::array<char, 3> digits = {};
      std::snprintf(digits.data(), digits.size(), "%02x", byte);
      entry.content_hash += digits.data();
    }
  }

  // Also groups files that claim one inode but a link count of 1: such a tree
  // looks to tar(1) and cp(1) as if they were hard links.
  void group_hard_links() {
    std::map<std::pair<dev_t, ino_t>, std::vector<ManifestEntry*>> groups;
    for (ManifestEntry& entry : manifest_.entries)
      if (!entry.is_mount_point && !S_ISDIR(entry.status.st_mode))
        groups[{entry.status.st_dev, entry.status.st_ino}].push_back(&entry);
    for (auto& [inode, members] : groups) {
      if (members.size() < 2) continue;
      const auto first = std::min_element(
          members.begin(), members.end(),
          [](const ManifestEntry* a, const ManifestEntry* b) { return a->path < b->path; });
      const std::string name = (*first)->path;
      for (ManifestEntry* member : members)
        member->hard_link_group = name;
    }
  }

  const ManifestOptions& options_;
  Manifest& manifest_;
  std::vector<char> buffer_;
  std::vector<Descriptor> open_;
};

char type_letter(mode_t mode) {
  switch (mode & S_IFMT) {
    case S_IFDIR:
      return 'd';
    case S_IFLNK:
      return 'l';
    case S_IFCHR:
      return 'c';
    case S_IFBLK:
      return 'b';
    case S_IFIFO:
      return 'p';
    case S_IFSOCK:
      return 's';
    default:
      return 'f';
  }
}

std::string format_time(const char* key, const struct timespec& time) {
  std::array<char, 64> text = {};
  std::snprintf(text.data(), text.size(), " %s=%" PRId64 ".%09ld", key,
                static_cast<std::int64_t>(time.tv_sec), time.tv_nsec);
  return text.data();
}

std::string to_hex(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes) {
    std::array<char, 3> digits = {};
    std::snprintf(digits.data(), digits.size(), "%02x", static_cast<unsigned char>(byte));
    text += digits.data();
  }
  return text;
}

}  // namespace

Manifest scan_tree(const std::string& root, const ManifestOptions& options) {
  Manifest manifest;
  Scan(options, manifest).run(root);
  return manifest;
}

std::string escape_bytes(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes) {
    if (byte > 0x20 && byte < 0x7f && byte != '\\')
      text += byte;
    else
      text += "\\x" + to_hex(std::string_view(&byte, 1));
  }
  return text;
}

std::string format_entry(const ManifestEntry& entry, const ManifestOptions& options) {
  std::string line = escape_bytes(entry.path) + "\t";
  if (entry.is_mount_point) return line + "type=mount-point";
  const struct stat& status = entry.status;
  std::array<char, 96> head = {};
  std::snprintf(head.data(), head.size(), "type=%c mode=%04o uid=%u gid=%u",
                type_letter(status.st_mode), status.st_mode & 07777U, status.st_uid, status.st_gid);
  line += head.data();
  if (!S_ISDIR(status.st_mode)) line += " size=" + std::to_string(status.st_size);
  if (S_ISCHR(status.st_mode) || S_ISBLK(status.st_mode))
    line += " rdev=" + std::to_string(major(status.st_rdev)) + ":" +
            std::to_string(minor(status.st_rdev));
  if (!S_ISDIR(status.st_mode) || options.directory_nlink)
    line += " nlink=" + std::to_string(status.st_nlink);
  if (options.mtimes && !is_any_at_or_below(entry.path, options.no_mtime_below))
    line += format_time("mtime", status.st_mtim);
  if (options.times_of_access) line += format_time("atime", status.st_atim);
  if (options.times_of_change) line += format_time("ctime", status.st_ctim);
  if (options.inode_numbers) line += " ino=" + std::to_string(status.st_ino);
  if (!entry.hard_link_group.empty()) line += " link=" + escape_bytes(entry.hard_link_group);
  if (S_ISLNK(status.st_mode)) line += " target=" + escape_bytes(entry.link_target);
  for (const auto& [name, value] : entry.xattrs)
    line += " xattr:" + escape_bytes(name) + "=0x" + to_hex(value);
  if (!entry.content_hash.empty()) line += " xxh3=" + entry.content_hash;
  if (!entry.directory_entry_contradiction.empty())
    line += " readdir-contradicts=" + entry.directory_entry_contradiction;
  return line;
}

std::vector<std::string> describe_differences(const Manifest& expected, const Manifest& actual,
                                              const ManifestOptions& options, std::size_t limit) {
  std::map<std::string, std::pair<std::string, std::string>> lines;
  for (const ManifestEntry& entry : expected.entries)
    lines[entry.path].first = format_entry(entry, options);
  for (const ManifestEntry& entry : actual.entries)
    lines[entry.path].second = format_entry(entry, options);
  std::vector<std::string> differences;
  for (const std::string& error : expected.errors)
    differences.push_back("expected: " + error);
  for (const std::string& error : actual.errors)
    differences.push_back("actual: " + error);
  for (const auto& [path, pair] : lines) {
    if (pair.first == pair.second) continue;
    if (!pair.first.empty()) differences.push_back("- " + pair.first);
    if (!pair.second.empty()) differences.push_back("+ " + pair.second);
  }
  if (differences.size() > limit) {
    const std::size_t left_out = differences.size() - limit;
    differences.resize(limit);
    differences.push_back("... and " + std::to_string(left_out) + " more lines");
  }
  return differences;
}

}  // namespace layerfs::testlib
