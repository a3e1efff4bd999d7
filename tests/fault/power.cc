// The power is cut at many moments of a parallel load, on an upper of a file system that keeps
// a journal or the like. What was put on disk before must be there; whatever else was done is
// there or not.
#include "tests/fault/bench.h"
#include "tests/fault/disk.h"
#include "tests/fault/load.h"

#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <stdexcept>

namespace layerfs::fault {
namespace {

using namespace std::chrono_literals;

constexpr auto kHang = 60s;

struct DiskKind {
  const char* name;
  const char* make;
  const char* options;  // of mount(8)
};
// Nothing is discarded: the disk holds what was written to it.
constexpr std::array kKinds = {
    DiskKind{"ext4", "mkfs.ext4 -q -F -N 8192 -E nodiscard,lazy_itable_init=0", "nodiscard"},
    DiskKind{"xfs", "mkfs.xfs -q -f -K", "nodiscard"},
    DiskKind{"btrfs", "mkfs.btrfs -q -f -K", "nodiscard"},
};

// Throws with what the command said if it fails.
void run(const std::string& command) {
  FILE* const pipe = ::popen((command + " 2>&1").c_str(), "re");
  std::string said;
  std::array<char, 1024> line{};
  while (pipe != nullptr && std::fgets(line.data(), line.size(), pipe) != nullptr) {
    said += line.data();
  }
  if (pipe == nullptr || ::pclose(pipe) != 0) {
    throw std::runtime_error(command + ": " + said);
  }
}

// The file system of a disk, mounted.
class Mounted {
 public:
  Mounted(const Disk& disk, const DiskKind& kind, std::string place) : place_(std::move(place)) {
    run(std::string("mount -t ") + kind.name + " -o loop," + kind.options + " " + disk.path() +
        " " + place_);
  }
  ~Mounted() {
    if (!place_.empty()) {
      ::umount2(place_.c_str(), MNT_DETACH);
    }
  }
  Mounted(const Mounted&) = delete;
  Mounted& operator=(const Mounted&) = delete;
  void unmount() {
    run("umount " + place_);
    place_.clear();
  }

 private:
  std::string place_;
};

class Power {
 public:
  Power(const std::string& base, const Variant& variant, const DiskKind& kind, const Outage& outage)
      : place_(base + "/disk"),
        base_(base),
        kind_(kind),
        outage_(outage),
        random_(outage.seed),
        disk_(made(base + "/device")) {
    run(kind.make + (" " + disk_.path()));
    std::filesystem::create_directory(place_);
    stack_ = std::make_unique<Stack>(base, variant, place_);
    Load::make_files(base + "/l1");
  }

  // Does the load and remembers what reached the disk.
  void record() {
    Mounted mounted(disk_, kind_, place_);
    stack_->renew();
    load_.restart();
    ::sync();
    disk_.record([this] { states_.push_back(load_.state()); });
    MountConfig config = stack_->config(false);
    config.threads = 0;
    Mount mount(config, base_, Watch::Free);
    const Watchdog watchdog(mount.pid(), kHang);
    work();
    if (const std::string end = mount.unmount(); !end.empty()) {
      throw std::runtime_error(end);
    }
    mounted.unmount();
    disk_.stop();
  }

  // In ascending order: half of them right after something was promised, for the next sync of
  // anything may put it on disk by accident.
  std::vector<std::size_t> moments() {
    std::vector<std::size_t> chosen;
    for (std::size_t i = 0; i < outage_.cuts && !states_.empty(); ++i) {
      std::size_t moment = 1 + random_() % states_.size();
      while (i % 2 == 0 && moment < states_.size() && !promises_more(moment)) {
        ++moment;
      }
      chosen.push_back(moment);
    }
    std::sort(chosen.begin(), chosen.end());
    return chosen;
  }

  // What is wrong after the power was cut at that moment.
  std::vector<std::string> look_after(std::size_t moment) {
    std::vector<std::string> lines;
    disk_.cut(moment, random_);
    load_.go_back_to(states_[moment - 1]);
    Mounted mounted(disk_, kind_, place_);
    {
      Mount mount(stack_->config(false), base_, Watch::Free);
      const Watchdog watchdog(mount.pid(), kHang);
      for (const std::string& name : stack_->leftovers()) {
        lines.push_back("in the work directory: " + name);
      }
      for (const std::string& line : load_.judge(stack_->root())) {
        lines.push_back(line);
      }
      if (const std::string end = mount.unmount(); !end.empty()) {
        lines.push_back(end);
      }
      if (watchdog.barked()) {
        lines.emplace_back("the daemon did not answer");
      }
    }
    for (const std::string& finding : stack_->findings(false)) {
      // What a crash may leave, see Trait.
      if (finding.find("index-") == std::string::npos &&
          finding.find("idle-whiteout") == std::string::npos) {
        lines.push_back("layerfs check: " + finding);
      }
    }
    mounted.unmount();
    return lines;
  }

  std::size_t events() const { return disk_.events(); }

 private:
  // Whether more is on disk after so many events than after one fewer.
  bool promises_more(std::size_t moment) const {
    const auto& now = states_[moment - 1];
    for (std::size_t slot = 0; moment > 1 && slot < now.size(); ++slot) {
      if (now[slot].kept > states_[moment - 2][slot].kept) {
        return true;
      }
    }
    return false;
  }

  static const std::string& made(const std::string& dir) {
    std::filesystem::create_directory(dir);
    return dir;
  }

  void work() {
    std::vector<pid_t> workers;
    for (unsigned worker = 0; worker < Load::kWorkers; ++worker) {
      const pid_t child = ::fork();
      if (child == 0) {
        disk_.let_go();
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        ::_exit(load_.work(stack_->root(), worker, outage_.seed * Load::kWorkers + worker,
                           Load::End::Power, outage_.steps));
      }
      workers.push_back(child);
    }
    int error = 0;
    for (const pid_t worker : workers) {
      int status = 0;
      ::waitpid(worker, &status, 0);
      error = WIFEXITED(status) && WEXITSTATUS(status) == 0 ? error : WEXITSTATUS(status);
    }
    if (error != 0) {
      throw std::runtime_error(std::string("a worker met ") + std::strerror(error));
    }
  }

  const std::string place_;
  const std::string base_;
  const DiskKind& kind_;
  const Outage& outage_;
  std::mt19937_64 random_;
  Disk disk_;
  std::unique_ptr<Stack> stack_;
  Load load_;
  std::vector<std::vector<Load::Steps>> states_;  // at each event of the disk
};

}  // namespace

const std::vector<std::string>& disk_kinds() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const DiskKind& kind : kKinds) {
      all.emplace_back(kind.name);
    }
    return all;
  }();
  return names;
}

std::string lacks(const std::string& kind) {
  const auto succeeds = [](const std::string& command) {
    return std::system((command + " >/dev/null 2>&1").c_str()) == 0;
  };
  if (!succeeds("grep -qw " + kind + " /proc/filesystems || modprobe " + kind)) {
    return "this kernel has no " + kind;
  }
  if (!succeeds("command -v mkfs." + kind)) {
    return "mkfs." + kind + " is not installed";
  }
  return ::access("/dev/loop-control", R_OK | W_OK) == 0 ? "" : "no loop devices";
}

int lose_power(const std::string& base, const Variant& variant, const Outage& outage) {
  Report report("power cuts, " + outage.kind + ", " + variant.name + ", seed " +
                std::to_string(outage.seed));
  const auto* const kind = std::find_if(kKinds.begin(), kKinds.end(), [&](const DiskKind& known) {
    return known.name == outage.kind;
  });
  Power power(base, variant, *kind, outage);
  power.record();
  std::printf("%zu writes and flushes\n", power.events());
  for (const std::size_t moment : power.moments()) {
    std::vector<std::string> lines;
    try {
      lines = power.look_after(moment);
    } catch (const std::exception& error) {
      lines.emplace_back(error.what());
    }
    if (lines.empty()) {
      report.passed();
      continue;
    }
    report.failed(
        outage.kind + ", " + variant.name + ": after event " + std::to_string(moment), lines,
        "fault-test power --fs " + outage.kind + " --variant " + variant.name + " --seed " +
            std::to_string(outage.seed) + " (what happens at which moment is not repeatable)");
  }
  return report.finish();
}

}  // namespace layerfs::fault
