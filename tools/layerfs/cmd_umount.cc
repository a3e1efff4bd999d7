#include <algorithm>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "layers/sys/unique_fd.h"
#include "tools/common/control_client.h"
#include "tools/common/mount_table.h"
#include "tools/common/process.h"
#include "tools/common/syntax.h"
#include "tools/common/unmount.h"
#include "tools/layerfs/commands.h"

namespace layerfs {
namespace {

using Milliseconds = std::chrono::milliseconds;

// How long a wait goes on before it is explained.
constexpr auto kSilentWait = std::chrono::seconds(10);
// A daemon that is too busy to say its number must not keep the mount from going.
constexpr auto kPidPatience = std::chrono::seconds(5);

struct UmountOptions {
  Detach detach = Detach::No;
  std::optional<Milliseconds> patience;
};

Command command_for(UmountOptions& options) {
  return Command{
      .program = "layerfs umount",
      .usage = {"MOUNTPOINT [OPTION...]"},
      .summary =
          "Unmounts a layerfs and returns when its daemon has written everything and is "
          "gone.",
      .groups = {{"Options",
                  {{.name = "lazy",
                    .help = "Take the mount out of sight at once, also while it is in use, and do "
                            "not wait; it ends when its last user lets go.",
                    .apply = [&options](std::string_view) -> Outcome<void> {
                      options.detach = Detach::Lazy;
                      return {};
                    }},
                   {.name = "timeout",
                    .value = "S",
                    .help = "Wait at most this many seconds for the daemon (default: for ever; "
                            "with --lazy: not at all).",
                    .apply = [&options](std::string_view text) -> Outcome<void> {
                      LFS_ASSIGN(const double seconds, parse_seconds(text));
                      constexpr double kMostSeconds = 1e9;
                      options.patience = Milliseconds(
                          static_cast<std::int64_t>(std::min(seconds, kMostSeconds) * 1e3));
                      return {};
                    }}}}},
  };
}

struct Daemon {
  pid_t pid;
  UniqueFd process;
};

// nullopt: it is dead.
Outcome<std::optional<Daemon>> find_daemon_of(const MountEntry& mount) {
  const ControlRequest request{.line = R"({"cmd":"pid"})", .patience = kPidPatience};
  const auto reply = ask_daemon(mount, request);
  if (!reply) {
    if (daemon_is_dead(mount)) {
      return std::optional<Daemon>();
    }
    return reply.error();
  }
  // The kernel's word counts in this process' pid namespace, but is that of the process
  // that called listen(2), which may have handed over to a child.
  std::vector<pid_t> candidates = {reply->server};
  const auto document = nlohmann::json::parse(reply->text, nullptr, /*allow_exceptions=*/false);
  if (document.is_object() && document.value("pid", nlohmann::json()).is_number_integer()) {
    candidates.push_back(document["pid"].get<pid_t>());
  }
  for (const pid_t pid : candidates) {
    if (pid > 0) {
      if (auto process = open_process(pid)) {
        return std::optional(Daemon{pid, *std::move(process)});
      }
    }
  }
  return failed("'" + mount.mount_point + "': its daemon is in a pid namespace not seen from here");
}

// Another place of this mount namespace where the same filesystem is mounted.
std::optional<std::string> other_mount_point(const MountEntry& mount) {
  const auto table = read_mount_table();
  if (!table) {
    return std::nullopt;
  }
  const auto other = std::find_if(table->begin(), table->end(), [&](const MountEntry& entry) {
    return entry.same_filesystem(mount) && entry.id != mount.id;
  });
  return other == table->end() ? std::nullopt : std::optional(other->mount_point);
}

Outcome<void> wait_for_daemon(const Daemon& daemon, const MountEntry& mount,
                              const UmountOptions& options, const Streams& streams) {
  const auto& patience = options.patience;
  if (!patience || *patience > kSilentWait) {
    if (wait_for_end(daemon.process, kSilentWait)) {
      return {};
    }
    streams.err << "layerfs: umount: '" << mount.mount_point
                << "' is unmounted; waiting for layerfsd (" << daemon.pid
                << ") to write everything, or for other mount namespaces to let go\n"
                << std::flush;
  }
  const auto rest = !patience                 ? std::nullopt
                    : *patience > kSilentWait ? std::optional(*patience - kSilentWait)
                                              : patience;
  if (wait_for_end(daemon.process, rest)) {
    return {};
  }
  return failed("'" + mount.mount_point + "' is unmounted, but layerfsd (" +
                std::to_string(daemon.pid) +
                ") has not ended yet: it still writes, or another mount namespace holds the "
                "mount; wait for that process before using the layers");
}

Outcome<void> run(const std::vector<std::string>& positionals, const UmountOptions& options,
                  const Streams& streams) {
  if (positionals.size() != 1) {
    return usage_error(positionals.empty() ? "no mount point is given"
                                           : "unexpected argument '" + positionals[1] + "'");
  }
  const std::string& path = positionals[0];
  LFS_ASSIGN(const Located located, locate(path, LastComponent::Follow));
  if (!located.is_mount_point) {
    return failed("'" + path + "' is not a mount point" +
                  (is_layerfs(located.mount)
                       ? "; it is inside the layerfs at " + located.mount.mount_point
                       : "; findmnt -t fuse.layerfs lists the layerfs mounts"));
  }
  if (!is_layerfs(located.mount)) {
    return failed("'" + path + "' is not a layerfs mount but " + located.mount.type +
                  "; use umount");
  }
  auto daemon = find_daemon_of(located.mount);
  const auto elsewhere = other_mount_point(located.mount);
  LFS_TRY(unmount(located.mount, options.detach));
  if (elsewhere) {
    streams.err << "layerfs: umount: '" << located.path
                << "' is unmounted; its daemon goes on for '" << *elsewhere << "'\n";
    return {};
  }
  const bool wait = options.detach == Detach::No || options.patience;
  if (!wait) {
    return {};
  }
  if (!daemon) {
    return failed("'" + located.path + "' is unmounted, but its daemon could not be waited for: " +
                  daemon.error().message);
  }
  return *daemon ? wait_for_daemon(**daemon, located.mount, options, streams) : Outcome<void>();
}

}  // namespace

Command describe_umount() {
  static UmountOptions unused;
  return command_for(unused);
}

int cmd_umount(Arguments arguments, const Streams& streams, const Environment& /*environment*/) {
  UmountOptions options;
  return run_command(command_for(options), arguments, streams, OnSignal::End,
                     [&](const std::vector<std::string>& positionals) {
                       return run(positionals, options, streams);
                     });
}

}  // namespace layerfs
