#include "tools/run/commands.h"

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <nlohmann/json.hpp>

#include "tools/common/command_line.h"
#include "tools/common/process.h"
#include "tools/common/syntax.h"
#include "tools/run/doctor.h"
#include "tools/run/exec.h"
#include "tools/run/exit_code.h"
#include "tools/run/option_syntax.h"
#include "tools/run/state.h"
#include "tools/run/stats.h"
#include "tools/run/text_file.h"

namespace layerfs::run {
namespace {

using Arguments = std::span<const std::string>;

int run_command(const Command& command, Arguments arguments, const Streams& streams,
                const CommandBody& body) {
  return parse_and_run(
      command, arguments, streams.out,
      [&](const Problem& problem) { return report(problem, streams); }, body);
}

Outcome<ContainerState> only_container(const std::vector<std::string>& names) {
  if (names.size() != 1) {
    return usage_error("exactly one NAME is needed");
  }
  return read_state(names.front());
}

std::string one_line(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) {
    out += (out.empty() ? "" : " ") + word;
  }
  return out;
}

int ps(Arguments arguments, const Streams& streams) {
  bool as_json = false;
  const Command command{.program = "layerfs-run ps",
                        .usage = {"[--json]"},
                        .summary = "Lists the containers of this user that run.",
                        .groups = {{"Options",
                                    {{.name = "json",
                                      .help = "As a list of JSON objects.",
                                      .apply = [&](std::string_view) -> Outcome<void> {
                                        as_json = true;
                                        return {};
                                      }}}}}};
  return run_command(command, arguments, streams, [&](const auto& rest) -> Outcome<int> {
    if (!rest.empty()) {
      return usage_error("ps takes no name");
    }
    LFS_ASSIGN(const auto containers, running_containers());
    nlohmann::json list = nlohmann::json::array();
    for (const ContainerState& state : containers) {
      list.push_back(state_to_json(state));
      if (!as_json) {
        streams.out << state.name << '\t' << state.pid << '\t' << one_line(state.config.command)
                    << '\n';
      }
    }
    if (as_json) {
      streams.out << list.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
    }
    return 0;
  });
}

int inspect(Arguments arguments, const Streams& streams) {
  const Command command{.program = "layerfs-run inspect",
                        .usage = {"NAME"},
                        .summary = "Shows what is known of a running container, as JSON.",
                        .groups = {}};
  return run_command(command, arguments, streams, [&](const auto& rest) -> Outcome<int> {
    LFS_ASSIGN(const ContainerState state, only_container(rest));
    streams.out << state_to_json(state).dump(2, ' ', false,
                                             nlohmann::json::error_handler_t::replace)
                << '\n';
    return 0;
  });
}

Outcome<void> send_signal(const UniqueFd& process, int number) {
  return ::syscall(SYS_pidfd_send_signal, process.get(), number, nullptr, 0) < 0
             ? Outcome<void>(failed("cannot send the signal: " + describe(Errno::last())))
             : Outcome<void>();
}

// A number, "TERM" or "SIGTERM".
Outcome<int> parse_signal(std::string_view text) {
  const std::string name(text.starts_with("SIG") ? text.substr(3) : text);
  for (int number = 1; number < NSIG; ++number) {
    const char* known = ::sigabbrev_np(number);
    if (known != nullptr && name == known) {
      return number;
    }
  }
  return parse_int(text, 1, SIGRTMAX);
}

int kill_container(Arguments arguments, const Streams& streams) {
  int number = SIGKILL;
  const Command command{
      .program = "layerfs-run kill",
      .usage = {"[--signal SIGNAL] NAME"},
      .summary = "Sends a signal to a container: KILL ends it, others go to its command.",
      .groups = {{"Options",
                  {{.name = "signal",
                    .letter = 's',
                    .value = "SIGNAL",
                    .help = "A name or a number; KILL if left out.",
                    .apply = [&](std::string_view text) -> Outcome<void> {
                      LFS_ASSIGN(number, parse_signal(text));
                      return {};
                    }}}}}};
  return run_command(command, arguments, streams, [&](const auto& rest) -> Outcome<int> {
    LFS_ASSIGN(const ContainerState state, only_container(rest));
    LFS_ASSIGN(const UniqueFd process, open_container(state));
    LFS_TRY(send_signal(process, number));
    return 0;
  });
}

int stop(Arguments arguments, const Streams& streams) {
  int seconds = 10;
  const Command command{
      .program = "layerfs-run stop",
      .usage = {"[--time SECONDS] NAME"},
      .summary = "Asks a container's command to end (TERM), and ends it if it does not.",
      .groups = {{"Options",
                  {{.name = "time",
                    .letter = 't',
                    .value = "SECONDS",
                    .help = "How long it has for that; 10 if left out.",
                    .apply = [&](std::string_view text) -> Outcome<void> {
                      LFS_ASSIGN(seconds, parse_int(text, 0, 86400));
                      return {};
                    }}}}}};
  return run_command(command, arguments, streams, [&](const auto& rest) -> Outcome<int> {
    LFS_ASSIGN(const ContainerState state, only_container(rest));
    LFS_ASSIGN(const UniqueFd process, open_container(state));
    LFS_TRY(send_signal(process, SIGTERM));
    if (!wait_for_end(process, std::chrono::seconds(seconds))) {
      LFS_TRY(send_signal(process, SIGKILL));
      wait_for_end(process, std::chrono::seconds(10));
    }
    return 0;
  });
}

int exec(Arguments arguments, const Streams& streams) {
  ExecRequest request;
  const auto text_into = [](std::string& target) {
    return [&target](std::string_view text) -> Outcome<void> {
      target = std::string(text);
      return {};
    };
  };
  const Command command{
      .program = "layerfs-run exec",
      .usage = {"[OPTION...] NAME COMMAND [ARGUMENT...]"},
      .summary =
          "Runs COMMAND in a container that runs, confined as its own command is. Exit "
          "codes are those of layerfs-run.",
      .groups = {{"Options",
                  {{.name = "tty",
                    .letter = 't',
                    .help = "Give the command a terminal of its own.",
                    .apply = [&](std::string_view) -> Outcome<void> {
                      request.terminal = true;
                      return {};
                    }},
                   {.name = "interactive",
                    .letter = 'i',
                    .help = "For docker's users: standard input is always handed on.",
                    .apply = [](std::string_view) -> Outcome<void> { return {}; }},
                   {.name = "env",
                    .letter = 'e',
                    .value = "NAME[=VALUE]",
                    .help = "One more variable.",
                    .apply = [&](std::string_view text) -> Outcome<void> {
                      LFS_ASSIGN(const auto found, parse_environment(text));
                      request.environment.insert(request.environment.end(), found.begin(),
                                                 found.end());
                      return {};
                    }},
                   {.name = "user",
                    .letter = 'u',
                    .value = "USER[:GROUP]",
                    .help = "Who the command runs as; as the container's command if left out.",
                    .apply = text_into(request.user)},
                   {.name = "workdir",
                    .letter = 'w',
                    .value = "DIR",
                    .help = "Where it begins.",
                    .apply = text_into(request.workdir)}}}},
      .ends_at_positional = true};
  return run_command(command, arguments, streams, [&](const auto& rest) -> Outcome<int> {
    if (rest.size() < 2) {
      return usage_error("NAME and COMMAND are needed");
    }
    LFS_ASSIGN(const ContainerState state, read_state(rest.front()));
    request.command.assign(rest.begin() + 1, rest.end());
    return exec_in_container(state, request, streams);
  });
}

int doctor(Arguments arguments, const Streams& streams) {
  const Command command{
      .program = "layerfs-run doctor",
      .usage = {""},
      .summary =
          "Tells what holds on this machine for this user, and what mends each lack. Exits "
          "with 125 if no container can be started.",
      .groups = {}};
  return run_command(command, arguments, streams, [&](const auto&) -> Outcome<int> {
    bool all_needed = true;
    for (const Finding& finding : examine_machine()) {
      all_needed = all_needed && (finding.holds || !finding.needed);
      streams.out << (finding.holds    ? "ok     "
                      : finding.needed ? "needed "
                                       : "lacks  ")
                  << finding.what << ": " << finding.detail << '\n';
    }
    return all_needed ? 0 : kLauncherFailed;
  });
}

// Again and again, until the container ends.
Outcome<void> watch_use(const ContainerState& state, double interval, const Streams& streams) {
  using Clock = std::chrono::steady_clock;
  // Cursor home, and what is below it erased: less flicker than erasing all first.
  constexpr const char* kRedraw = "\033[H\033[J";
  LFS_ASSIGN(const UniqueFd process, open_container(state));
  const auto pause = std::chrono::milliseconds(static_cast<std::int64_t>(interval * 1000));
  std::optional<ContainerUse> before;
  Clock::time_point then;
  do {
    const ContainerUse now = use_of(state);
    const Clock::time_point time = Clock::now();
    const std::chrono::duration<double> passed = time - then;
    streams.out << (streams.out_is_terminal ? kRedraw : "")
                << use_text(now, before ? &*before : nullptr, passed.count())
                << (streams.out_is_terminal ? "" : "\n") << std::flush;
    before = now;
    then = time;
  } while (!wait_for_end(process, pause));
  return {};
}

int stats(Arguments arguments, const Streams& streams) {
  std::optional<double> interval;
  const Command command{
      .program = "layerfs-run stats",
      .usage = {"[--watch[=SECONDS]] NAME"},
      .summary =
          "Shows what a container uses: processor time, memory and processes, as the control "
          "groups of its limits count it, else as /proc tells it.",
      .groups = {{"Options",
                  {{.name = "watch",
                    .value = "SECONDS",
                    .optional = "2",
                    .help = "Again every SECONDS (default: 2), until the container ends.",
                    .apply = [&](std::string_view text) -> Outcome<void> {
                      LFS_ASSIGN(interval, parse_seconds(text));
                      return *interval < 0.1 ? Outcome<void>(usage_error("at least 0.1 seconds"))
                                             : Outcome<void>();
                    }}}}}};
  return run_command(command, arguments, streams, [&](const auto& rest) -> Outcome<int> {
    LFS_ASSIGN(const ContainerState state, only_container(rest));
    if (interval) {
      LFS_TRY(watch_use(state, *interval, streams));
      return 0;
    }
    streams.out << use_text(use_of(state), nullptr, 0);
    return 0;
  });
}

struct Entry {
  const char* name;
  int (*run)(Arguments, const Streams&);
};
constexpr std::array kCommands = {
    Entry{"doctor", doctor},   Entry{"stats", stats}, Entry{"exec", exec},          Entry{"ps", ps},
    Entry{"inspect", inspect}, Entry{"stop", stop},   Entry{"kill", kill_container}};

}  // namespace

int report(const Problem& problem, const Streams& streams) {
  streams.err << "layerfs-run: " << problem.message;
  if (problem.code == ExitCode::Usage) {
    streams.err << "; see 'layerfs-run --help'";
  }
  streams.err << '\n';
  return kLauncherFailed;
}

std::optional<int> run_other_command(Arguments arguments, const Streams& streams) {
  for (const Entry& entry : kCommands) {
    if (!arguments.empty() && arguments.front() == entry.name) {
      return entry.run(arguments.subspan(1), streams);
    }
  }
  return std::nullopt;
}

}  // namespace layerfs::run
