// What the daemon may do, has open, and passes on.
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/testlib/skip.h"
#include "tests/testlib/test_mount.h"

using namespace layerfs::testing;

namespace {

constexpr std::uint64_t bit(int capability) { return std::uint64_t{1} << capability; }

constexpr std::uint64_t kNeeded = bit(CAP_CHOWN) | bit(CAP_DAC_OVERRIDE) |
                                  bit(CAP_DAC_READ_SEARCH) | bit(CAP_FOWNER) | bit(CAP_FSETID) |
                                  bit(CAP_MKNOD) | bit(CAP_LINUX_IMMUTABLE) | bit(CAP_SETUID) |
                                  bit(CAP_SETGID) | bit(CAP_SYS_ADMIN) | bit(CAP_SETFCAP) |
                                  bit(CAP_MAC_ADMIN) | bit(CAP_MAC_OVERRIDE) | bit(CAP_SYS_PTRACE);

nlohmann::json stats_of(const std::string& mountpoint, const std::string& as = "") {
  const CommandResult result = run(as + "layerfs stats --json " + mountpoint);
  REQUIRE(result.code == 0);
  return nlohmann::json::parse(result.output);
}

// The value of a line of /proc/PID/status.
std::string status_of(const std::string& task, const std::string& key) {
  std::istringstream lines(read_file(task + "/status"));
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(key + ":\t")) {
      return line.substr(key.size() + 2);
    }
  }
  return "";
}

std::uint64_t set_of(const std::string& task, const std::string& key) {
  return std::stoull(status_of(task, key), nullptr, 16);
}

std::string proc_of(const nlohmann::json& stats) {
  return "/proc/" + std::to_string(stats.at("pid").get<int>());
}

}  // namespace

TEST_CASE("every thread of root's daemon has the capabilities that it needs, and says so") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  TestMount mount;
  mount.mount("--io " + io);
  const nlohmann::json stats = stats_of(mount.at(""));
  const std::uint64_t own = set_of("/proc/self", "CapPrm");
  const std::vector<std::string> threads = names_in(proc_of(stats) + "/task");
  CHECK(threads.size() > 2);
  for (const std::string& thread : threads) {
    const std::string task = proc_of(stats) + "/task/" + thread;
    CAPTURE(thread);
    CHECK(set_of(task, "CapPrm") == (own & kNeeded));
    CHECK(set_of(task, "CapEff") == (own & kNeeded));
    CHECK(set_of(task, "CapInh") == 0);
    CHECK(set_of(task, "CapAmb") == 0);
    CHECK(status_of(task, "NoNewPrivs") == "1");
  }
  CHECK(stats.at("no_new_privs") == true);
  CHECK(stats.at("capabilities").size() ==
        static_cast<std::size_t>(__builtin_popcountll(own & kNeeded)));
  const CommandResult table = run("layerfs stats " + mount.at(""));
  CHECK(table.output.find("cap_sys_admin") != std::string::npos);
  CHECK(table.output.find("cap_sys_module") == std::string::npos);
  CHECK(table.output.find("no_new_privs") != std::string::npos);
}

TEST_CASE("a user's daemon has no capabilities, and says that a program may give it some") {
  const TempDir dir;
  for (const char* name : {"l", "u", "m"}) {
    make_dirs(dir.at(name));
    REQUIRE(::chown(dir.at(name).c_str(), 65534, 65534) == 0);
  }
  REQUIRE(::chown(dir.path().c_str(), 65534, 65534) == 0);
  const std::string as = "setpriv --reuid 65534 --regid 65534 --clear-groups ";
  const CommandResult mounted =
      run(as + "layerfs mount " + dir.at("l") + " " + dir.at("u") + " " + dir.at("m"));
  if (mounted.output.find("fuse3 must be installed") != std::string::npos) {
    SKIP_TEST("no fusermount3");
  }
  CAPTURE(mounted.output);
  REQUIRE(mounted.code == 0);
  const nlohmann::json stats = stats_of(dir.at("m"), as);
  CHECK(set_of(proc_of(stats), "CapPrm") == 0);
  CHECK(stats.at("capabilities").empty());
  CHECK(stats.at("no_new_privs") == false);
  const CommandResult table = run(as + "layerfs stats " + dir.at("m"));
  CHECK(table.output.find("no capabilities\n") != std::string::npos);
  CHECK(run(as + "layerfs umount " + dir.at("m")).code == 0);
}

TEST_CASE("no descriptor of the caller is in the daemon, and none of the daemon in its children") {
  TestMount mount;
  write_file(mount.base() + "/secret", "secret");
  write_file(mount.lower() + "/open", "data");
  const std::string options = " --log-file " + mount.base() + "/log";
  const CommandResult started =
      run("exec 7<" + mount.base() + "/secret 9<" + mount.base() + "; layerfs mount " +
          mount.lower() + " " + mount.upper() + " " + mount.at("") + options);
  CAPTURE(started.output);
  REQUIRE(started.code == 0);
  const int open = ::open(mount.at("open").c_str(), O_RDWR | O_CLOEXEC);
  REQUIRE(::write(open, "x", 1) == 1);
  const std::string proc = proc_of(stats_of(mount.at("")));
  std::size_t count = 0;
  for (const std::string& fd : names_in(proc + "/fd")) {
    char target[4096] = {};
    const std::string link = proc + "/fd/" + fd;
    if (::readlink(link.c_str(), target, sizeof target - 1) < 0) {
      continue;  // closed meanwhile
    }
    CAPTURE(fd, target);
    CHECK(std::string(target) != mount.base() + "/secret");
    CHECK(std::string(target) != mount.base());
    if (std::stoi(fd) > 2) {
      const std::string info = read_file(proc + "/fdinfo/" + fd);
      const auto flags = std::stoul(info.substr(info.find("flags:") + 6), nullptr, 8);
      CHECK((flags & O_CLOEXEC) != 0);
      ++count;
    } else {
      CHECK(std::string(target) == "/dev/null");
    }
  }
  CHECK(count > 5);
  ::close(open);
  CHECK(run("layerfs umount " + mount.at("")).code == 0);
}
