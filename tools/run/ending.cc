#include "tools/run/ending.h"

#include <sys/wait.h>

#include <array>
#include <nlohmann/json.hpp>

namespace layerfs::run {
namespace {

bool died_of_memory(const Ending& ending) { return ending.used.oom_kills > 0 && ending.code != 0; }

// In the units of the command line.
std::string size_text(std::uint64_t bytes) {
  constexpr std::array<const char*, 5> kUnits = {"", "K", "M", "G", "T"};
  std::size_t unit = 0;
  std::uint64_t value = bytes;
  while (value >= 1024 && unit + 1 < kUnits.size()) {
    value = (value + 512) / 1024;
    ++unit;
  }
  return std::to_string(value) + kUnits[unit];
}

}  // namespace

std::string explain(const Ending& ending, const Limits& limits, const std::string& command) {
  const CgroupReport& used = ending.used;
  std::string out;
  const auto add = [&](const std::string& text) { out += (out.empty() ? "" : "; ") + text; };
  if (died_of_memory(ending) && limits.memory) {
    add("exit " + std::to_string(ending.code) + ": killed by the " + size_text(*limits.memory) +
        " memory limit (peak " + size_text(used.memory_peak.value_or(*limits.memory)) + ", " +
        std::to_string(used.oom_kills) + " oom_kill, " + command + ")");
  }
  if (ending.code != 0 && used.pids_refused > 0 && limits.pids) {
    add("the limit of " + std::to_string(*limits.pids) + " processes refused " +
        std::to_string(used.pids_refused) + " more");
  }
  if (!out.empty() && used.periods > 0 && used.throttled > 0) {
    add("CPU throttled in " + std::to_string(used.throttled * 100 / used.periods) + "% of periods");
  }
  return out;
}

std::string report_text(const Ending& ending, const Limits& limits, const std::string& command) {
  nlohmann::json report = {{"exit", ending.code}};
  if (ending.wait_status >= 0 && WIFSIGNALED(ending.wait_status)) {
    report["signal"] = WTERMSIG(ending.wait_status);
  }
  report["cause"] = !ending.message.empty()     ? "launcher"
                    : died_of_memory(ending)    ? "oom"
                    : report.contains("signal") ? "signal"
                                                : "exit";
  if (limits.any()) {
    const CgroupReport& used = ending.used;
    report["oom_kill"] = used.oom_kills;
    report["cpu_periods"] = used.periods;
    report["cpu_throttled"] = used.throttled;
    report["pids_refused"] = used.pids_refused;
    if (used.memory_peak) {
      report["memory_peak"] = *used.memory_peak;
    }
    if (used.pids_peak) {
      report["pids_peak"] = *used.pids_peak;
    }
  }
  const std::string text =
      ending.message.empty() ? explain(ending, limits, command) : ending.message;
  if (!text.empty()) {
    report["message"] = text;
  }
  return report.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace layerfs::run
