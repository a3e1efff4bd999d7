#include "tests/model/layer_digest.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <vector>

#include "tests/model/side.h"

namespace layerfs::model {
namespace {

constexpr std::int64_t kSample = 1 << 20;

// The data of the file's first part by extent: a whole sparse file would take too long.
std::uint64_t content_digest(const char* path, std::int64_t size) {
  const int fd = ::open(path, O_RDONLY | O_NOATIME | O_CLOEXEC);
  std::uint64_t digest = 0;
  std::vector<char> buffer;
  std::int64_t budget = kSample;
  for (std::int64_t at = 0; at < size && budget > 0;) {
    const std::int64_t data = ::lseek(fd, at, SEEK_DATA);
    if (data < 0) {
      break;
    }
    const std::int64_t end = std::min<std::int64_t>(::lseek(fd, data, SEEK_HOLE), data + budget);
    buffer.resize(static_cast<std::size_t>(end - data));
    const ssize_t n = ::pread(fd, buffer.data(), buffer.size(), data);
    if (n <= 0) {
      break;
    }
    digest = digest * 31 + digest_of({buffer.data(), static_cast<std::size_t>(n)}) +
             static_cast<std::uint64_t>(data);
    budget -= n;
    at = data + n;
  }
  ::close(fd);
  return digest;
}

std::string describe(const char* path) {
  struct stat st {};
  if (::lstat(path, &st) < 0) {
    return "unreadable";
  }
  std::string out = "mode=" + std::to_string(st.st_mode) + " owner=" + std::to_string(st.st_uid) +
                    ":" + std::to_string(st.st_gid) + " nlink=" + std::to_string(st.st_nlink) +
                    " size=" + std::to_string(st.st_size) + " rdev=" + std::to_string(st.st_rdev) +
                    " mtime=" + std::to_string(st.st_mtim.tv_sec) + "." +
                    std::to_string(st.st_mtim.tv_nsec) + " ino=" + std::to_string(st.st_ino);
  if (S_ISREG(st.st_mode)) {
    out += " content=" + std::to_string(content_digest(path, st.st_size));
  }
  char names[8192];
  const ssize_t length = ::llistxattr(path, names, sizeof names);
  for (ssize_t i = 0; i < length; i += static_cast<ssize_t>(std::strlen(names + i)) + 1) {
    char value[4096];
    const ssize_t size = ::lgetxattr(path, names + i, value, sizeof value);
    out += std::string(" ") + (names + i) + "=" +
           std::to_string(digest_of({value, static_cast<std::size_t>(std::max<ssize_t>(size, 0))}));
  }
  return out;
}

}  // namespace

std::map<std::string, std::string> describe_layer(const std::string& root) {
  std::map<std::string, std::string> out;
  out["."] = describe(root.c_str());
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
    out[entry.path().string().substr(root.size() + 1)] = describe(entry.path().c_str());
  }
  return out;
}

std::string first_difference(const std::map<std::string, std::string>& before,
                             const std::map<std::string, std::string>& after) {
  for (const auto& [path, text] : before) {
    const auto found = after.find(path);
    if (found == after.end()) {
      return path + " is gone";
    }
    if (found->second != text) {
      return path + " was " + text + ", is " + found->second;
    }
  }
  for (const auto& [path, text] : after) {
    if (before.count(path) == 0) {
      return path + " is new";
    }
  }
  return "";
}

}  // namespace layerfs::model
