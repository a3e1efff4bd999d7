#include "tools/run/options.h"

#include <unistd.h>

#include <filesystem>

#include "tools/common/syntax.h"
#include "tools/run/capabilities.h"
#include "tools/run/option_syntax.h"
#include "tools/run/places.h"
#include "tools/run/text_file.h"

namespace layerfs::run {
namespace {

using Apply = std::function<Outcome<void>(std::string_view)>;

std::string working_directory() {
  std::error_code error;
  return std::filesystem::current_path(error).string();
}

std::string absolute(const std::string& path) {
  return path.starts_with('/') ? path : working_directory() + "/" + path;
}

Option flag(std::string name, char letter, std::string help, bool& target, bool value = true) {
  return {.name = std::move(name),
          .letter = letter,
          .value = {},
          .help = std::move(help),
          .apply = [&target, value](std::string_view) -> Outcome<void> {
            target = value;
            return {};
          }};
}

Option valued(std::string name, char letter, std::string value, std::string help, Apply apply) {
  return {.name = std::move(name),
          .letter = letter,
          .value = std::move(value),
          .help = std::move(help),
          .apply = std::move(apply)};
}

// Stores what `parse` makes of the value.
template <class T, class Parse>
Apply into(T& target, Parse parse) {
  return [&target, parse](std::string_view text) -> Outcome<void> {
    LFS_ASSIGN(target, parse(text));
    return {};
  };
}

template <class T, class Parse>
Apply onto(std::vector<T>& list, Parse parse) {
  return [&list, parse](std::string_view text) -> Outcome<void> {
    LFS_ASSIGN(T one, parse(text));
    list.push_back(std::move(one));
    return {};
  };
}

Outcome<std::string> as_it_is(std::string_view text) { return std::string(text); }

Apply capability_into(std::uint64_t& set) {
  return [&set](std::string_view text) -> Outcome<void> {
    LFS_ASSIGN(const std::uint64_t bits, parse_capability(text));
    set |= bits;
    return {};
  };
}

Outcome<Network> parse_network(std::string_view text) {
  if (text == "none") {
    return Network::None;
  }
  if (text == "host") {
    return Network::Host;
  }
  return usage_error("'" + std::string(text) + "' is none of none and host");
}

}  // namespace

RunOptions::RunOptions() = default;

OptionGroup RunOptions::root_options() {
  return {"Root",
          {
              valued("layers", 'l', "LAYER[:LAYER...]",
                     "The read-only layers, the leftmost on top. Required.",
                     into(config_.layers, split_layers)),
              valued("upper", '\0', "DIR",
                     "Where changes go. Without it they are thrown away at the end.",
                     [this](std::string_view text) -> Outcome<void> {
                       config_.upper = absolute(unescape_path(text));
                       return {};
                     }),
              flag("read-only", '\0', "Nothing below / can be changed, but in volumes and tmpfs.",
                   config_.read_only),
              valued("volume", 'v', "SOURCE:TARGET[:WORD,...]",
                     "Show the host's SOURCE at TARGET. Words: ro, noexec, nosuid, dev, private, "
                     "slave, shared.",
                     onto(config_.volumes,
                          [](std::string_view text) {
                            return parse_volume(text, working_directory());
                          })),
              valued("tmpfs", '\0', "TARGET[:WORD,...]",
                     "An empty directory in memory. Words: ro, noexec, size=SIZE, mode=MODE.",
                     onto(config_.volumes, parse_tmpfs)),
          }};
}

OptionGroup RunOptions::process_options() {
  return {
      "Command",
      {
          valued("name", '\0', "NAME", "What the container is called; made up if left out.",
                 [this](std::string_view text) -> Outcome<void> {
                   if (!is_valid_name(text)) {
                     return usage_error("'" + std::string(text) +
                                        "' is no name: letters, digits, _ + - and ., not first");
                   }
                   config_.name = std::string(text);
                   return {};
                 }),
          valued("env", 'e', "NAME[=VALUE]",
                 "Set a variable, or hand on the caller's. Nothing else is handed on.",
                 [this](std::string_view text) -> Outcome<void> {
                   LFS_ASSIGN(const auto found, parse_environment(text));
                   config_.environment.insert(config_.environment.end(), found.begin(),
                                              found.end());
                   return {};
                 }),
          valued("env-file", '\0', "FILE", "As --env, for each line of FILE.",
                 [this](std::string_view text) -> Outcome<void> {
                   LFS_ASSIGN(const std::string content, read_text(std::string(text)));
                   LFS_ASSIGN(const auto found, parse_environment_file(content));
                   config_.environment.insert(config_.environment.end(), found.begin(),
                                              found.end());
                   return {};
                 }),
          valued("workdir", 'w', "DIR", "Where the command begins; / if left out.",
                 into(config_.workdir, as_it_is)),
          valued("user", 'u', "USER[:GROUP]",
                 "Who the command runs as: names of the container's /etc/passwd and /etc/group, "
                 "or numbers; root if left out.",
                 into(config_.user, as_it_is)),
          valued("hostname", '\0', "NAME", "The container's host name; its name if left out.",
                 into(config_.hostname, parse_hostname)),
          valued("ulimit", '\0', "NAME=SOFT[:HARD]", "A resource limit, as nofile=1024:4096.",
                 onto(config_.limits, parse_ulimit)),
          flag("tty", 't', "Give the command a terminal of its own.", config_.terminal),
          flag("interactive", 'i', "For docker's users: standard input is always handed on.",
               config_.interactive),
          flag("no-init", '\0',
               "The command is process 1 itself; else an init reaps and hands signals on.",
               config_.init, false),
      }};
}

OptionGroup RunOptions::isolation_options() {
  NamespaceChoice& own = config_.own;
  return {
      "Isolation",
      {
          valued("net", '\0', "none|host", "The network: loopback only (default), or the host's.",
                 into(config_.network, parse_network)),
          flag("share-user", '\0', "Keep the caller's user namespace.", own.user, false),
          flag("share-pid", '\0', "Keep the host's processes in sight.", own.pid, false),
          valued("uid-map", '\0', "C:H:N[:C:H:N...]",
                 "Which host ids (H) the container's user and group ids (C) are, N of them, as "
                 "root; all as they are if left out.",
                 [this](std::string_view text) -> Outcome<void> {
                   LFS_ASSIGN(config_.uid_map, parse_id_map(text));
                   return {};
                 }),
          flag("share-net", '\0', "As --net host.", own.net, false),
          flag("share-uts", '\0', "Keep the host's name.", own.uts, false),
          flag("share-ipc", '\0', "Keep the host's System V and POSIX IPC.", own.ipc, false),
          flag("share-cgroup", '\0', "Keep the host's view of control groups.", own.cgroup, false),
          flag("share-time", '\0', "Keep the host's clocks.", own.time, false),
          valued("cap-add", '\0', "CAPABILITY", "One more capability, or ALL.",
                 capability_into(added_)),
          valued("cap-drop", '\0', "CAPABILITY", "One fewer, or ALL.", capability_into(dropped_)),
          valued("seccomp", '\0', "default|unconfined|FILE",
                 "The system call filter; FILE is in docker's JSON form.",
                 into(config_.seccomp, as_it_is)),
          flag("new-privs", '\0', "Let set-id programs and file capabilities give privileges.",
               config_.no_new_privs, false),
      }};
}

Command RunOptions::describe() {
  return Command{
      .program = "layerfs-run",
      .usage = {"[OPTION...] [--] COMMAND [ARGUMENT...]", "--help | --version"},
      .summary =
          "Runs COMMAND in a container whose root is made of layers. Exits with the "
          "command's code, 128+N if signal N ended it, 127 if it is not in the container, "
          "126 if it cannot be executed, and 125 if there could be no container.",
      .groups = {root_options(), process_options(), isolation_options()},
      .ends_at_positional = true,
  };
}

Outcome<RunConfig> RunOptions::finish(std::vector<std::string> command) {
  RunConfig out = config_;
  out.command = std::move(command);
  if (out.layers.empty()) {
    return usage_error("no root: --layers is missing");
  }
  if (out.command.empty()) {
    return usage_error("no COMMAND");
  }
  for (std::string& layer : out.layers) {
    layer = absolute(layer);
  }
  if (out.network == Network::Host) {
    out.own.net = false;
  } else if (!out.own.net) {
    out.network = Network::Host;
  }
  if (!out.uid_map.empty() && (!out.own.user || ::geteuid() != 0)) {
    return usage_error("--uid-map is for root with a user namespace of the container's own");
  }
  // Dropping ALL and adding some back is how docker's users write a short list.
  const std::uint64_t base = default_capabilities();
  LFS_ASSIGN(const std::uint64_t all, parse_capability("all"));
  out.capabilities = dropped_ == all ? added_ : ((base | added_) & ~dropped_);
  return out;
}

}  // namespace layerfs::run
