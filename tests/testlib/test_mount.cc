#include "tests/testlib/test_mount.h"

#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <thread>

namespace layerfs::testing {
namespace {

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
    throw_errno(command);
  }
  std::string output;
  char buffer[4096];
  for (std::size_t n = 0; (n = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;) {
    output.append(buffer, n);
  }
  const int status = ::pclose(pipe);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), output};
}

void wait_for_room(const std::string& path, std::uint64_t bytes) {
  using namespace std::chrono_literals;
  for (auto left = 5s / 50ms; left > 0 && std::filesystem::space(path).available < bytes; --left) {
    std::this_thread::sleep_for(50ms);
  }
}

const std::vector<std::string>& io_modes() {
  static const std::vector<std::string> modes = [] {
    std::vector<std::string> can = {"cached"};
    TestMount probe;
    const CommandResult result = run("layerfs mount --io passthrough " + probe.lower() + " " +
                                     probe.upper() + " " + probe.at(""));
    if (result.code == 0) {
      run("layerfs umount " + probe.at(""));
      can.emplace_back("passthrough");
    } else if (result.output.find("passthrough cannot be had") != std::string::npos) {
      std::printf("SKIP: %s", result.output.c_str());
    } else {
      throw std::runtime_error(result.output);
    }
    return can;
  }();
  return modes;
}

TestMount::TestMount(std::size_t lowers) : base_(make_temp_dir("/var/tmp")), lowers_(lowers) {
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
