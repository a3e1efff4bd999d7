#include "tests/testlib/tree_maker.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <system_error>

namespace layerfs::testing {
namespace {

namespace fs = std::filesystem;

void check(int result, const std::string& what) {
  if (result < 0) {
    throw std::system_error(errno, std::generic_category(), what);
  }
}

void set_time(const std::string& path, double seconds) {
  double whole = 0;
  const double fraction = std::modf(seconds, &whole);
  const timespec at{static_cast<time_t>(whole), static_cast<long>(std::lround(fraction * 1e9))};
  const timespec times[2] = {at, at};
  check(::utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW), path);
}

constexpr double kTime = 1000000000;

}  // namespace

void make_tree(const std::string& root, const std::vector<std::string>& words) {
  fs::create_directories(root);
  std::set<std::string> timed;
  for (const std::string& word : words) {
    const std::size_t cut = std::min(word.find_first_of("=|@#~"), word.find("->"));
    std::string name = word.substr(0, cut);
    const bool directory = cut == std::string::npos && name.ends_with('/');
    if (directory) {
      name.pop_back();
    }
    const std::string path = name.empty() ? root : root + "/" + name;
    fs::create_directories(fs::path(path).parent_path());
    const std::string rest = cut == std::string::npos ? "" : word.substr(cut);
    if (rest.empty()) {
      fs::create_directories(path);
    } else if (rest.starts_with("==")) {
      fs::create_hard_link(root + "/" + rest.substr(2), path);
    } else if (rest.starts_with("->")) {
      fs::create_symlink(rest.substr(2), path);
    } else if (rest[0] == '=') {
      std::ofstream(path, std::ios::binary) << rest.substr(1);
    } else if (rest[0] == '|') {
      check(::mkfifo(path.c_str(), 0644), path);
    } else if (rest[0] == '@') {
      check(::chmod(path.c_str(), static_cast<mode_t>(std::stoul(rest.substr(1), nullptr, 8))),
            path);
    } else if (rest[0] == '#') {
      const std::size_t equals = rest.find('=');
      const std::string value = rest.substr(equals + 1);
      check(::lsetxattr(path.c_str(), rest.substr(1, equals - 1).c_str(), value.data(),
                        value.size(), 0),
            path);
      continue;
    } else if (rest[0] == '~') {
      set_time(path, std::stod(rest.substr(1)));
      timed.insert(path);
      continue;
    }
    if (!timed.contains(path)) {
      set_time(path, kTime);
    }
  }
  if (!timed.contains(root)) {
    set_time(root, kTime);
  }
  for (const auto& entry : fs::recursive_directory_iterator(root)) {
    if (entry.is_directory() && !entry.is_symlink() && !timed.contains(entry.path())) {
      set_time(entry.path(), kTime);
    }
  }
}

bool has_user_xattrs() {
  const TempDir dir;
  return ::setxattr(dir.path().c_str(), "user.layerfs-test", "1", 1, 0) == 0;
}

}  // namespace layerfs::testing
