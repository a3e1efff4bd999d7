#include "tests/testlib/files.h"

#include <fcntl.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <system_error>

namespace layerfs::testing {

void throw_errno(const std::string& what) {
  throw std::system_error(errno, std::generic_category(), what);
}

void write_file(const std::string& path, const std::string& content) {
  const int fd = ::open(path.c_str(), O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) {
    throw_errno(path);
  }
  const bool written =
      ::write(fd, content.data(), content.size()) == static_cast<ssize_t>(content.size());
  if (::close(fd) < 0 || !written) {
    throw_errno(path);
  }
}

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) {
    throw_errno(path);
  }
  return {std::istreambuf_iterator<char>(in), {}};
}

void make_dirs(const std::string& path) { std::filesystem::create_directories(path); }

struct stat stat_of(const std::string& path) {
  struct stat st = {};
  if (::lstat(path.c_str(), &st) < 0) {
    throw_errno(path);
  }
  return st;
}

bool exists(const std::string& path) {
  struct stat st = {};
  if (::lstat(path.c_str(), &st) == 0) {
    return true;
  }
  if (errno != ENOENT) {
    throw_errno(path);
  }
  return false;
}

std::vector<std::string> names_in(const std::string& dir) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(dir)) {
    names.push_back(entry.path().filename());
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string quick_parent() {
  const std::string memory = "/dev/shm";
  std::string probe = memory + "/layerfs-test.XXXXXX";
  if (::mkdtemp(probe.data()) != nullptr) {
    const bool takes = ::setxattr(probe.c_str(), "user.probe", "1", 1, 0) == 0;
    ::rmdir(probe.c_str());
    if (takes) {
      return memory;
    }
  }
  return "/var/tmp";
}

std::string make_temp_dir(const std::string& parent) {
  std::string path = parent + "/layerfs-test.XXXXXX";
  if (::mkdtemp(path.data()) == nullptr) {
    throw_errno(path);
  }
  return path;
}

TempDir::~TempDir() {
  std::error_code error;
  std::filesystem::remove_all(path_, error);
}

}  // namespace layerfs::testing
