// The daemon is killed at a random moment of a parallel load, again and again on the same
// upper. What was done, and what was written and on disk by fsync, must be there.
#include "tests/fault/bench.h"
#include "tests/fault/load.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <random>
#include <stdexcept>

namespace layerfs::fault {
namespace {

using namespace std::chrono_literals;

constexpr auto kHang = 60s;
constexpr std::size_t kRoundsOfOneUpper = 25;
constexpr std::uint64_t kMostSteps = 400;

void append(std::vector<std::string>& lines, const std::string& when,
            const std::vector<std::string>& more) {
  for (const std::string& line : more) {
    lines.push_back(when + line);
  }
}

// Runs the workers and kills the daemon after so many of their steps, which a busy machine
// does too. Returns what went wrong before that.
std::vector<std::string> load_and_kill(Mount& mount, Load& load, const std::string& root,
                                       std::uint64_t seed, std::uint64_t steps) {
  std::vector<pid_t> workers;
  for (unsigned worker = 0; worker < Load::kWorkers; ++worker) {
    const pid_t child = ::fork();
    if (child == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      ::_exit(load.work(root, worker, seed * Load::kWorkers + worker, Load::End::Daemon));
    }
    workers.push_back(child);
  }
  const std::uint64_t enough = load.steps() + steps;
  const auto deadline = std::chrono::steady_clock::now() + 5s;
  while (load.steps() < enough && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(100us);
  }
  std::vector<std::string> lines;
  if (mount.ended()) {
    lines.emplace_back("the daemon ended by itself");
  }
  ::kill(mount.pid(), SIGKILL);
  for (const pid_t worker : workers) {
    int status = 0;
    ::waitpid(worker, &status, 0);
    const int error = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    // A connection that is gone, and pages that could not be written out.
    if (error != ENOTCONN && error != ECONNABORTED && error != EIO) {
      lines.push_back("a worker met " + std::string(std::strerror(error)));
    }
  }
  mount.kill();
  return lines;
}

}  // namespace

int kill_at_random(const std::string& base, const Variant& variant, std::size_t rounds,
                   std::uint64_t seed) {
  Report report("kills, " + variant.name + ", seed " + std::to_string(seed));
  Stack stack(base, variant);
  Load load;
  Load::make_files(base + "/l1");
  MountConfig config = stack.config(false);
  config.threads = 0;
  std::mt19937_64 random(seed);
  const auto note = [&](std::size_t round, const std::vector<std::string>& lines) {
    if (lines.empty()) {
      report.passed();
      return;
    }
    report.failed(variant.name + ": round " + std::to_string(round), lines,
                  "fault-test kill --variant " + variant.name + " --seed " + std::to_string(seed) +
                      " --rounds " + std::to_string(round + 1) + " (moments are not repeatable)");
  };
  for (std::size_t round = 0; round < rounds; ++round) {
    if (round % kRoundsOfOneUpper == 0) {
      stack.renew();
      load.restart();
    }
    std::vector<std::string> lines;
    try {
      {
        Mount mount(config, base, Watch::Free);
        const Watchdog watchdog(mount.pid(), kHang);
        const std::uint64_t workers_seed = random();
        lines = load_and_kill(mount, load, stack.root(), workers_seed, random() % kMostSteps);
      }
      Mount mount(config, base, Watch::Free);
      const Watchdog watchdog(mount.pid(), kHang);
      append(lines, "in the work directory: ", stack.leftovers());
      append(lines, "", load.judge(stack.root()));
      if (const std::string end = mount.unmount(); !end.empty()) {
        lines.push_back(end);
      }
      if (watchdog.barked()) {
        lines.emplace_back("the daemon did not answer");
      }
      for (const std::string& finding : stack.findings(false)) {
        // What a crash may leave, see Trait.
        if (finding.find("index-") == std::string::npos &&
            finding.find("idle-whiteout") == std::string::npos) {
          lines.push_back("layerfs check: " + finding);
        }
      }
    } catch (const std::exception& error) {
      lines.emplace_back(error.what());
    }
    note(round, lines);
  }
  std::printf("%llu steps with the last upper\n", static_cast<unsigned long long>(load.steps()));
  return report.finish();
}

}  // namespace layerfs::fault
