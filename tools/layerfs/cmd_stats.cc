#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "tools/common/control_client.h"
#include "tools/common/syntax.h"
#include "tools/layerfs/commands.h"
#include "tools/layerfs/stats_table.h"

namespace layerfs {
namespace {

constexpr double kShortestInterval = 0.1;
// Cursor home, and what is below it erased: less flicker than erasing all first.
constexpr const char* kRedraw = "\033[H\033[J";

struct StatsOptions {
  bool json = false;
  std::optional<double> interval;  // seconds
};

Command command_for(StatsOptions& options) {
  return Command{
      .program = "layerfs stats",
      .usage = {"MOUNTPOINT [OPTION...]"},
      .summary =
          "Shows what the mount negotiated with the kernel, its requests by kind with their "
          "latencies, its caches, and what was copied up. Any path in the mount will do.",
      .groups = {{"Options",
                  {{.name = "json",
                    .help = "Print the daemon's document as it is, on one line.",
                    .apply = [&options](std::string_view) -> Outcome<void> {
                      options.json = true;
                      return {};
                    }},
                   {.name = "watch",
                    .value = "S",
                    .optional = "2",
                    .help = "Again every S seconds (default: 2), with requests a second, until "
                            "interrupted.",
                    .apply = [&options](std::string_view text) -> Outcome<void> {
                      LFS_ASSIGN(const double seconds, parse_seconds(text));
                      if (seconds < kShortestInterval) {
                        return usage_error("'" + std::string(text) +
                                           "' is too short; give at least 0.1 seconds");
                      }
                      options.interval = seconds;
                      return {};
                    }}}}},
      .notes =
          "Latencies are the time the daemon spent on a request. The columns 'half' and\n"
          "'99 %' say how long that share of the requests took at most.",
  };
}

Outcome<void> run(const std::vector<std::string>& positionals, const StatsOptions& options,
                  const Streams& streams) {
  using Clock = std::chrono::steady_clock;
  if (positionals.size() != 1) {
    return usage_error(positionals.empty() ? "no mount point is given"
                                           : "unexpected argument '" + positionals[1] + "'");
  }
  LFS_ASSIGN(const Located located, locate_layerfs(positionals[0], LastComponent::Follow));
  std::optional<nlohmann::json> before;
  auto asked_before = Clock::now();
  for (;;) {
    LFS_ASSIGN(nlohmann::json stats,
               ask_daemon_json(located.mount, {.line = R"({"cmd":"stats"})"}));
    const auto now = Clock::now();
    if (options.json) {
      streams.out << stats.dump() << '\n';
    } else {
      const StatsView view{before ? &*before : nullptr,
                           std::chrono::duration<double>(now - asked_before).count()};
      streams.out << (options.interval && streams.out_is_terminal ? kRedraw : "")
                  << stats_table(stats, view);
    }
    streams.out.flush();
    if (!options.interval || !streams.out) {
      return {};
    }
    before = std::move(stats);
    asked_before = now;
    std::this_thread::sleep_for(std::chrono::duration<double>(*options.interval));
  }
}

}  // namespace

Command describe_stats() {
  static StatsOptions unused;
  return command_for(unused);
}

int cmd_stats(Arguments arguments, const Streams& streams, const Environment& /*environment*/) {
  StatsOptions options;
  return run_command(command_for(options), arguments, streams, OnSignal::End,
                     [&](const std::vector<std::string>& positionals) {
                       return run(positionals, options, streams);
                     });
}

}  // namespace layerfs
