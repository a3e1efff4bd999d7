#include "tests/model/compare.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/statfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <ctime>
#include <map>
#include <vector>

#include "tests/model/compare_content.h"
#include "tests/model/record.h"
#include "tests/model/side.h"

namespace layerfs::model {
namespace {

std::string shown(const std::string& path) {
  Record record;
  record.word = "path";
  record.add("p", path);
  return format_record(record).substr(7);
}

Difference differ(const std::string& kind, const std::string& what, const std::string& expected,
                  const std::string& got) {
  return {kind, what + ": " + kind + " expected " + expected + ", got " + got};
}

Verdict numbers(const char* kind, const std::string& what, std::int64_t expected,
                std::int64_t got) {
  if (expected == got) {
    return std::nullopt;
  }
  return differ(kind, what, std::to_string(expected), std::to_string(got));
}

std::string octal(mode_t mode) {
  char text[16];
  std::snprintf(text, sizeof text, "0%o", mode);
  return text;
}

std::string time_text(const struct timespec& time) {
  char text[40];
  std::snprintf(text, sizeof text, "%lld.%09ld", static_cast<long long>(time.tv_sec), time.tv_nsec);
  return text;
}

using Xattrs = std::map<std::string, std::string>;

// The l*xattr calls take no directory descriptor; the working directory serves.
int read_xattrs(int root, const std::string& path, Xattrs& out) {
  if (::fchdir(root) < 0) {
    return errno;
  }
  char names[16384];
  const ssize_t length = ::llistxattr(path.c_str(), names, sizeof names);
  if (length < 0) {
    return errno;
  }
  for (ssize_t i = 0; i < length; i += static_cast<ssize_t>(std::strlen(names + i)) + 1) {
    char value[8192];
    const ssize_t size = ::lgetxattr(path.c_str(), names + i, value, sizeof value);
    out[names + i] = size < 0 ? std::string("?") + ::strerrorname_np(errno)
                              : std::string(value, static_cast<std::size_t>(size));
  }
  return 0;
}

std::string xattr_text(const Xattrs& all) {
  std::string out;
  for (const auto& [name, value] : all) {
    out += " " + name + "=" + to_hex(value.substr(0, 64));
  }
  return out.empty() ? " (none)" : out;
}

struct Listed {
  unsigned char type = 0;
  std::uint64_t ino = 0;
  int times = 0;
};
using Listing = std::map<std::string, Listed>;

int read_listing(int root, const std::string& path, Listing& out) {
  const int fd = ::openat(root, path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) {
    return errno;
  }
  std::vector<ListedName> names;
  const int error = list_directory(fd, names) < 0 ? errno : 0;
  ::close(fd);
  for (const ListedName& entry : names) {
    Listed& listed = out[entry.name];
    listed.type = entry.type;
    listed.ino = entry.ino;
    ++listed.times;
  }
  return error;
}

std::string error_text(int error) { return error == 0 ? "success" : ::strerrorname_np(error); }

}  // namespace

Comparer::Comparer(int oracle, int mount, const CompareOptions& options)
    : oracle_(oracle), mount_(mount), options_(options), old_before_(::time(nullptr) - 60) {
  reattach(oracle, mount, false);
}

void Comparer::reattach(int oracle, int mount, bool same_objects) {
  oracle_ = oracle;
  mount_ = mount;
  struct stat st {};
  device_ = ::fstat(mount, &st) == 0 ? st.st_dev : 0;
  if (!same_objects) {
    to_mount_.clear();
    to_oracle_.clear();
  }
}

void Comparer::forget(std::uint64_t oracle_ino) {
  const auto found = to_mount_.find(oracle_ino);
  if (found == to_mount_.end()) {
    return;
  }
  to_oracle_.erase(found->second);
  to_mount_.erase(found);
}

Verdict Comparer::inode(const std::string& what, std::uint64_t oracle, std::uint64_t mount) {
  if (!options_.inode_numbers) {
    return std::nullopt;
  }
  if (mount == 0) {
    return Difference{"st_ino", what + ": st_ino is 0"};
  }
  const auto [known, fresh] = to_mount_.emplace(oracle, mount);
  if (known->second != mount) {
    return differ("st_ino changed", what, std::to_string(known->second), std::to_string(mount));
  }
  const auto [owner, first] = to_oracle_.emplace(mount, oracle);
  if (owner->second != oracle) {
    return Difference{"st_ino shared", what + ": st_ino " + std::to_string(mount) +
                                           " is already that of another object (oracle inode " +
                                           std::to_string(owner->second) + ", this one " +
                                           std::to_string(oracle) + ")"};
  }
  return std::nullopt;
}

Verdict Comparer::time_of_change(const std::string& what, const struct stat& oracle,
                                 const struct stat& mount) const {
  const auto& a = oracle.st_mtim;
  const auto& b = mount.st_mtim;
  if (S_ISFIFO(oracle.st_mode) && a.tv_sec >= old_before_) {
    return std::nullopt;  // what is written into a pipe the mount never hears of
  }
  const bool exact = a.tv_sec < old_before_ || b.tv_sec < old_before_;
  const double apart = std::fabs(static_cast<double>(a.tv_sec - b.tv_sec) +
                                 1e-9 * static_cast<double>(a.tv_nsec - b.tv_nsec));
  const bool equal = a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
  if (exact ? equal : apart <= options_.now_tolerance) {
    return std::nullopt;
  }
  const char* kind = S_ISDIR(oracle.st_mode) ? "directory mtime" : "mtime";
  return ignores(kind) ? std::nullopt : Verdict(differ(kind, what, time_text(a), time_text(b)));
}

Verdict Comparer::attributes(const std::string& what, const struct stat& oracle,
                             const struct stat& mount) {
  if (oracle.st_mode != mount.st_mode) {
    const bool set_ids = ((oracle.st_mode ^ mount.st_mode) & ~mode_t{S_ISUID | S_ISGID}) == 0 &&
                         (S_ISREG(oracle.st_mode) || S_ISDIR(oracle.st_mode));
    const char* kind = set_ids ? "set-id bits" : "mode";
    if (!ignores(kind)) {
      return differ(kind, what, octal(oracle.st_mode), octal(mount.st_mode));
    }
  }
  const bool is_dir = S_ISDIR(oracle.st_mode);
  Verdict verdict = numbers("uid", what, oracle.st_uid, mount.st_uid);
  if (!verdict) {
    verdict = numbers("gid", what, oracle.st_gid, mount.st_gid);
  }
  if (!verdict && !is_dir && !ignores("size")) {
    verdict = numbers("size", what, oracle.st_size, mount.st_size);
  }
  if (!verdict && (is_dir ? options_.directory_nlink : !ignores("nlink"))) {
    verdict = numbers(is_dir ? "directory nlink" : "nlink", what,
                      static_cast<std::int64_t>(oracle.st_nlink),
                      static_cast<std::int64_t>(mount.st_nlink));
  }
  if (!verdict && (S_ISCHR(oracle.st_mode) || S_ISBLK(oracle.st_mode))) {
    verdict = numbers("rdev", what, static_cast<std::int64_t>(oracle.st_rdev),
                      static_cast<std::int64_t>(mount.st_rdev));
  }
  if (!verdict && options_.device_numbers) {
    verdict = numbers("st_dev", what, static_cast<std::int64_t>(device_),
                      static_cast<std::int64_t>(mount.st_dev));
  }
  if (!verdict) {
    verdict = time_of_change(what, oracle, mount);
  }
  return verdict ? verdict : inode(what, oracle.st_ino, mount.st_ino);
}

Verdict Comparer::object(const std::string& path, Content with_content) {
  const std::string what = shown(path);
  struct stat oracle {};
  struct stat mount {};
  const int oracle_error =
      ::fstatat(oracle_, path.c_str(), &oracle, AT_SYMLINK_NOFOLLOW) < 0 ? errno : 0;
  const int mount_error =
      ::fstatat(mount_, path.c_str(), &mount, AT_SYMLINK_NOFOLLOW) < 0 ? errno : 0;
  if (oracle_error != mount_error) {
    return differ("existence", what, error_text(oracle_error), error_text(mount_error));
  }
  if (oracle_error != 0) {
    return std::nullopt;
  }
  Verdict verdict = attributes(what, oracle, mount);
  if (!verdict) {
    verdict = xattrs(path);
  }
  if (!verdict && S_ISLNK(oracle.st_mode)) {
    verdict = link_target(path);
  }
  if (!verdict && with_content == Content::Yes && S_ISREG(oracle.st_mode)) {
    verdict = file_content(path);
  }
  return verdict;
}

Verdict Comparer::xattrs(const std::string& path) {
  Xattrs oracle;
  Xattrs mount;
  const int oracle_error = read_xattrs(oracle_, path, oracle);
  const int mount_error = read_xattrs(mount_, path, mount);
  if (oracle_error != mount_error) {
    return differ("listxattr result", shown(path), error_text(oracle_error),
                  error_text(mount_error));
  }
  if (oracle == mount || ignores("xattrs")) {
    return std::nullopt;
  }
  return differ("xattrs", shown(path), xattr_text(oracle), xattr_text(mount));
}

Verdict Comparer::link_target(const std::string& path) {
  char oracle[4096];
  char mount[4096];
  const ssize_t a = ::readlinkat(oracle_, path.c_str(), oracle, sizeof oracle);
  const ssize_t b = ::readlinkat(mount_, path.c_str(), mount, sizeof mount);
  if (a == b && (a < 0 || std::memcmp(oracle, mount, static_cast<std::size_t>(a)) == 0)) {
    return std::nullopt;
  }
  return differ("symlink target", shown(path),
                std::string(oracle, static_cast<std::size_t>(std::max<ssize_t>(a, 0))),
                b < 0 ? error_text(errno) : std::string(mount, static_cast<std::size_t>(b)));
}

Verdict Comparer::file_content(const std::string& path) {
  const int flags = O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK;
  const int oracle = ::openat(oracle_, path.c_str(), flags);
  const int mount = ::openat(mount_, path.c_str(), flags);
  Verdict verdict;
  if (oracle < 0 || mount < 0) {
    if (mount < 0) {
      verdict = Difference{"open for reading", shown(path) + ": " + error_text(errno)};
    }
  } else {
    struct stat st {};
    verdict = ::fstat(oracle, &st) == 0 ? compare_content(shown(path), oracle, mount, st.st_size)
                                        : std::nullopt;
  }
  ::close(oracle);
  ::close(mount);
  return verdict;
}

Verdict Comparer::holes(const std::string& path) {
  const int flags = O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK;
  const int oracle = ::openat(oracle_, path.c_str(), flags);
  const int mount = ::openat(mount_, path.c_str(), flags);
  struct stat st {};
  Verdict verdict;
  if (oracle >= 0 && mount >= 0 && ::fstat(oracle, &st) == 0 && S_ISREG(st.st_mode)) {
    verdict = compare_holes(shown(path), oracle, mount, st.st_size);
  }
  if (oracle >= 0) {
    ::close(oracle);
  }
  if (mount >= 0) {
    ::close(mount);
  }
  return verdict;
}

Verdict Comparer::handles(int oracle_fd, int mount_fd, bool readable) {
  struct stat oracle {};
  struct stat mount {};
  if (::fstat(oracle_fd, &oracle) < 0) {
    return std::nullopt;
  }
  if (::fstat(mount_fd, &mount) < 0) {
    return Difference{"fstat", std::string("open file: ") + error_text(errno)};
  }
  Verdict verdict = attributes("open file", oracle, mount);
  if (!verdict && readable && S_ISREG(oracle.st_mode)) {
    verdict = compare_content("open file", oracle_fd, mount_fd, oracle.st_size);
  }
  return verdict;
}

Verdict Comparer::statfs(const std::string& path) {
  struct statfs oracle {};
  struct statfs mount {};
  if (::fchdir(oracle_) < 0 || ::statfs(path.c_str(), &oracle) < 0 || ::fchdir(mount_) < 0 ||
      ::statfs(path.c_str(), &mount) < 0) {
    return std::nullopt;
  }
  Verdict verdict = numbers("statfs f_blocks in bytes", path,
                            static_cast<std::int64_t>(oracle.f_blocks) * oracle.f_bsize,
                            static_cast<std::int64_t>(mount.f_blocks) * mount.f_bsize);
  if (!verdict && !ignores("result of statfs")) {
    verdict = numbers("statfs f_namelen", path, oracle.f_namelen, mount.f_namelen);
  }
  if (!verdict && mount.f_bavail > mount.f_blocks) {
    verdict = Difference{"statfs f_bavail", path + ": more free than there is"};
  }
  return verdict;
}

Verdict Comparer::listing(const std::string& path) {
  Listing oracle;
  Listing mount;
  const int oracle_error = read_listing(oracle_, path, oracle);
  const int mount_error = read_listing(mount_, path, mount);
  const std::string what = shown(path) + "/";
  if (oracle_error != mount_error) {
    return differ("listing result", what, error_text(oracle_error), error_text(mount_error));
  }
  for (const auto& [name, entry] : mount) {
    const auto found = oracle.find(name);
    if (found == oracle.end()) {
      return Difference{"listing", what + " lists " + shown(name) + ", which should not be there"};
    }
    if (entry.times != 1) {
      return Difference{
          "listing", what + " lists " + shown(name) + " " + std::to_string(entry.times) + " times"};
    }
    if (entry.type != found->second.type && entry.type != DT_UNKNOWN) {
      return differ("d_type", what + shown(name), std::to_string(found->second.type),
                    std::to_string(entry.type));
    }
    const char* kind = name == ".." ? "d_ino of .." : "d_ino";
    if (options_.listed_inode_numbers && !ignores(kind) && (name != ".." || path != ".")) {
      if (Verdict verdict = inode(what + shown(name), found->second.ino, entry.ino)) {
        return Difference{kind, verdict->detail};
      }
    }
  }
  for (const auto& [name, entry] : oracle) {
    if (mount.count(name) == 0) {
      return Difference{"listing", what + " does not list " + shown(name)};
    }
  }
  return std::nullopt;
}

Verdict Comparer::tree(const std::string& path) {
  Verdict verdict = object(path, Content::Yes);
  Listing names;
  if (!verdict && read_listing(oracle_, path, names) == 0) {
    verdict = listing(path);
    for (auto it = names.begin(); it != names.end() && !verdict; ++it) {
      if (it->first != "." && it->first != "..") {
        verdict = tree(path == "." ? it->first : path + "/" + it->first);
      }
    }
  }
  return verdict;
}

}  // namespace layerfs::model
