#include "tools/run/options.h"

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
Apply optional_into(std::optional<T>& target, Parse parse) {
  return [&target, parse](std::string_view text) -> Outcome<void> {
    LFS_ASSIGN(const T value, parse(text));
    target = value;
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
  if (text == "pasta") {
    return Network::Pasta;
  }
  return usage_error("'" + std::string(text) + "' is none of none, host and pasta");
}

}  // namespace

RunOptions::RunOptions() = default;

OptionGroup RunOptions::root_options() {
  return {"Root",
          {
              valued("layers", 'l', "LAYER[:LAYER...]",
                     "The read-only layers, the leftmost on top. They or an image are needed.",
                     into(config_.layers, split_layers)),
              valued("image", '\0', "IMAGE",
                     "oci:DIR[:TAG], oci-archive:FILE[:TAG] or docker-archive:FILE[:NAME[:TAG]]: "
                     "its layers, below those of --layers, and what it says of the command.",
                     into(config_.image, as_it_is)),
              valued("store", '\0', "DIR",
                     "Where an image's layers are unpacked, once for all runs: "
                     "/var/lib/layerfs/store for root, ~/.local/share/layerfs/store else.",
                     [this](std::string_view text) -> Outcome<void> {
                       config_.store = absolute(std::string(text));
                       return {};
                     }),
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
          valued("entrypoint", '\0', "PROGRAM", "In place of the image's entrypoint and command.",
                 optional_into(config_.entrypoint, as_it_is)),
          valued("workdir", 'w', "DIR", "Where the command begins; the image's, or / if left out.",
                 into(config_.workdir, as_it_is)),
          valued("user", 'u', "USER[:GROUP]",
                 "Who the command runs as: names of the container's /etc/passwd and /etc/group, "
                 "or numbers; the image's, or root if left out.",
                 into(config_.user, as_it_is)),
          valued("hostname", '\0', "NAME", "The container's host name; its name if left out.",
                 into(config_.hostname, parse_hostname)),
          valued("ulimit", '\0', "NAME=SOFT[:HARD]", "A resource limit, as nofile=1024:4096.",
                 onto(config_.limits, parse_ulimit)),
          flag("tty", 't', "Give the command a terminal of its own.", config_.terminal),
          flag("interactive", 'i', "For docker's users: standard input is always handed on.",
               config_.interactive),
          flag("detach", 'd', "Print the name and return once the command runs.", config_.detach),
          valued("log", '\0', "FILE",
                 "Where a detached command's output goes; NAME.log beside the container's state if "
                 "left out.",
                 [this](std::string_view text) -> Outcome<void> {
                   config_.log_file = absolute(std::string(text));
                   return {};
                 }),
          flag("rm", '\0',
               "Remove the log of a detached command at its end; nothing else stays anyway.",
               config_.remove_log),
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
          valued("net", '\0', "none|host|pasta",
                 "The network: loopback only (default), the host's, or a way out through pasta.",
                 into(config_.network, parse_network)),
          valued("publish", 'p', "[ADDRESS:]HOST:CONTAINER[/udp]",
                 "With pasta: connections to the host's port HOST come to CONTAINER.",
                 onto(config_.ports, parse_port)),
          valued("net-rate", '\0', "RATE",
                 "With pasta: the most bits a second, each way, as 10m; by tc(8).",
                 optional_into(config_.net_rate, parse_rate)),
          flag("share-user", '\0', "Keep the caller's user namespace.", own.user, false),
          flag("share-pid", '\0', "Keep the host's processes in sight.", own.pid, false),
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

OptionGroup RunOptions::limit_options() {
  Limits& limits = config_.limits_of_groups;
  return {
      "Limits",
      {
          valued("memory", 'm', "SIZE", "Memory of all processes together, as 512m.",
                 optional_into(limits.memory, parse_size)),
          valued("memory-swap", '\0', "SIZE",
                 "Memory and swap together; -1 for no limit, twice the memory if left out.",
                 [&limits](std::string_view text) -> Outcome<void> {
                   if (text == "-1") {
                     limits.memory_swap = -1;
                     return {};
                   }
                   LFS_ASSIGN(const std::uint64_t bytes, parse_size(text));
                   limits.memory_swap = static_cast<std::int64_t>(bytes);
                   return {};
                 }),
          valued("cpus", '\0', "N", "Processor time: 0.5 is half of one processor.",
                 optional_into(limits.cpus, parse_seconds)),
          valued("cpu-shares", '\0', "N",
                 "Weight against other groups, 2 to 262144; 1024 is usual.",
                 optional_into(limits.cpu_shares,
                               [](std::string_view text) -> Outcome<std::uint64_t> {
                                 LFS_ASSIGN(const int n, parse_int(text, 2, 262144));
                                 return static_cast<std::uint64_t>(n);
                               })),
          valued("cpuset-cpus", '\0', "LIST", "Which processors, as 0-2,4.",
                 into(limits.cpuset, as_it_is)),
          valued("pids", '\0', "N", "The most processes and threads; 0 for no limit.",
                 optional_into(limits.pids,
                               [](std::string_view text) -> Outcome<std::int64_t> {
                                 LFS_ASSIGN(const int n, parse_int(text, 0, 4194304));
                                 return std::int64_t{n};
                               })),
          valued("io", '\0', "DEVICE:KEY=N[,KEY=N...]",
                 "Bytes (rbps, wbps) or operations (riops, wiops) a second, what the filesystem "
                 "does for the container included. DEVICE is a block device or MAJOR:MINOR.",
                 [&limits](std::string_view text) -> Outcome<void> {
                   LFS_ASSIGN(const auto found, parse_io_limit(text));
                   limits.io.insert(limits.io.end(), found.begin(), found.end());
                   return {};
                 }),
          valued("io-weight", '\0', "N", "Weight of the I/O against other groups, 10 to 1000.",
                 optional_into(limits.io_weight,
                               [](std::string_view text) -> Outcome<std::uint64_t> {
                                 LFS_ASSIGN(const int n, parse_int(text, 10, 1000));
                                 return static_cast<std::uint64_t>(n);
                               })),
          valued("device-allow", '\0', "DEVICE[:ACCESS]",
                 "A device of the host below /dev, at the same place; ACCESS of r, w and m, all "
                 "if left out. The container can use no others.",
                 onto(limits.devices, parse_device)),
          valued("cgroups", '\0', "strict|best-effort",
                 "Whether a limit that cannot be set is an error (default) or left out.",
                 [&limits](std::string_view text) -> Outcome<void> {
                   if (text != "strict" && text != "best-effort") {
                     return usage_error("'" + std::string(text) +
                                        "' is neither strict nor best-effort");
                   }
                   limits.best_effort = text == "best-effort";
                   return {};
                 }),
          valued("status-fd", '\0', "N", "Write how it ended to descriptor N, as a line of JSON.",
                 into(config_.status_fd,
                      [](std::string_view text) { return parse_int(text, 0, 1023); })),
      }};
}

Command RunOptions::describe() {
  return Command{
      .program = "layerfs-run",
      .usage = {"[OPTION...] [--] COMMAND [ARGUMENT...]",
                "exec|ps|inspect|stats|stop|kill|doctor ... (each with --help)",
                "--help | --version"},
      .summary =
          "Runs COMMAND in a container whose root is made of layers. Exits with the "
          "command's code, 128+N if signal N ended it, 127 if it is not in the container, "
          "126 if it cannot be executed, and 125 if there could be no container.",
      .groups = {root_options(), process_options(), isolation_options(), limit_options()},
      .ends_at_positional = true,
  };
}

Outcome<RunConfig> RunOptions::finish(std::vector<std::string> command) {
  RunConfig out = config_;
  out.command = std::move(command);
  if (out.layers.empty() && out.image.empty()) {
    return usage_error("no root: --layers or --image is missing");
  }
  if (out.image.empty() && (out.entrypoint || !out.store.empty())) {
    return usage_error("--entrypoint and --store need --image");
  }
  if (out.detach && out.terminal) {
    return usage_error("--detach and --tty exclude each other");
  }
  if (out.command.empty() && out.image.empty()) {
    return usage_error("no COMMAND");
  }
  for (std::string& layer : out.layers) {
    layer = absolute(layer);
  }
  if (out.network == Network::Host) {
    out.own.net = false;
  } else if (!out.own.net) {
    if (out.network == Network::Pasta) {
      return usage_error("--net pasta needs a network namespace; leave out --share-net");
    }
    out.network = Network::Host;
  }
  if (!out.ports.empty() && out.network != Network::Pasta) {
    return usage_error("--publish needs --net pasta; with --net host the ports are the host's");
  }
  if (out.net_rate && out.network != Network::Pasta) {
    return usage_error("--net-rate needs --net pasta: there is no other interface of its own");
  }
  // What is wrong with the limits alone is the user's to know before anything begins.
  for (const CgroupVersion version : {CgroupVersion::V1, CgroupVersion::V2}) {
    LFS_TRY(writes_for(out.limits_of_groups, version));
  }
  // Dropping ALL and adding some back is how docker's users write a short list.
  const std::uint64_t base = default_capabilities();
  LFS_ASSIGN(const std::uint64_t all, parse_capability("all"));
  out.capabilities = dropped_ == all ? added_ : ((base | added_) & ~dropped_);
  return out;
}

}  // namespace layerfs::run
