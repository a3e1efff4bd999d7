#include "tests/testlib/test_mount.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <system_error>

namespace layerfs::testing {
namespace {

[[noreturn]] void fail(const std::string& what) {
  throw std::system_error(errno, std::generic_category(), what);
}

nlohmann::json stats_of(const std::string& mountpoint) {
  const CommandResult result = run("layerfs stats --json " + mountpoint);
  if (result.code != 0) {
    throw std::runtime_error(result.output);
  }
  return nlohmann::json::parse(result.output);
}

}  // namespace

CommandResult run(const std::string& command) {
  const std::string line =
      "export PATH=" LAYERFS_TEST_BIN_DIR ":$PATH; timeout 60 sh -c '" + command + "' 2>&1";
  FILE* pipe = ::popen(line.c_str(), "re");
  if (pipe == nullptr) {
    fail(command);
  }
  std::string output;
  char buffer[4096];
  for (std::size_t n = 0; (n = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;) {
    output.append(buffer, n);
  }
  const int status = ::pclose(pipe);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), output};
}

void write_file(const std::string& path, const std::string& content) {
  const int fd = ::open(path.c_str(), O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) {
    fail(path);
  }
  const bool written =
      ::write(fd, content.data(), content.size()) == static_cast<ssize_t>(content.size());
  if (::close(fd) < 0 || !written) {
    fail(path);
  }
}

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) {
    fail(path);
  }
  return {std::istreambuf_iterator<char>(in), {}};
}

void make_dirs(const std::string& path) { std::filesystem::create_directories(path); }

struct stat stat_of(const std::string& path) {
  struct stat st = {};
  if (::lstat(path.c_str(), &st) < 0) {
    fail(path);
  }
  return st;
}

bool exists(const std::string& path) {
  struct stat st = {};
  if (::lstat(path.c_str(), &st) == 0) {
    return true;
  }
  if (errno != ENOENT) {
    fail(path);
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

TestMount::TestMount(std::size_t lowers) : lowers_(lowers) {
  std::string base = "/var/tmp/layerfs-test.XXXXXX";
  if (::mkdtemp(base.data()) == nullptr) {
    fail(base);
  }
  base_ = base;
  for (std::size_t i = 0; i < lowers; ++i) {
    make_dirs(lower(i));
  }
  make_dirs(upper());
  make_dirs(base_ + "/m");
}

TestMount::~TestMount() {
  const std::string mountpoint = base_ + "/m";
  if (mounted_ && run("layerfs umount " + mountpoint).code != 0 &&
      ::umount2(mountpoint.c_str(), MNT_DETACH) < 0) {
    std::perror(mountpoint.c_str());
    return;  // what is mounted there must not be removed
  }
  run("rm -rf --one-file-system " + base_);
}

void TestMount::mount(const std::string& options) {
  options_ = options;
  std::string layers;
  for (std::size_t i = 0; i < lowers_; ++i) {
    layers += (i == 0 ? "" : ":") + lower(i);
  }
  const CommandResult result =
      run("layerfs mount " + layers + " " + upper() + " " + base_ + "/m " + options);
  if (result.code != 0) {
    throw std::runtime_error("layerfs mount: " + result.output);
  }
  mounted_ = true;
}

void TestMount::unmount() {
  const CommandResult result = run("layerfs umount " + base_ + "/m");
  if (result.code != 0) {
    throw std::runtime_error("layerfs umount: " + result.output);
  }
  mounted_ = false;
}

void TestMount::remount() {
  unmount();
  mount(options_);
}

TestMount::Counts TestMount::requests() const {
  Counts counts;
  const nlohmann::json stats = stats_of(base_ + "/m");
  for (const auto& [kind, values] : stats.at("requests").items()) {
    counts[kind] = values.at("count").get<std::uint64_t>();
  }
  return counts;
}

std::uint64_t TestMount::copied_bytes() const {
  return stats_of(base_ + "/m").at("copied_up").at("bytes").get<std::uint64_t>();
}

TestMount::Counts asked(const TestMount::Counts& before, const TestMount::Counts& after) {
  TestMount::Counts difference;
  for (const auto& [kind, count] : after) {
    const auto found = before.find(kind);
    const std::uint64_t more = count - (found == before.end() ? 0 : found->second);
    if (more > 0 && kind.find("FORGET") == std::string::npos) {
      difference[kind] = more;
    }
  }
  return difference;
}

std::uint64_t total(const TestMount::Counts& counts) {
  std::uint64_t sum = 0;
  for (const auto& [kind, count] : counts) {
    sum += count;
  }
  return sum;
}

}  // namespace layerfs::testing
