// The program `layerfs`: its commands, and the mount(8) helper that it becomes under the
// name mount.layerfs. Commands get what they use from outside injected.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "layers/mount_config.h"
#include "tools/common/command_line.h"
#include "tools/common/daemon.h"
#include "tools/common/problem.h"
#include "tools/common/streams.h"

namespace layerfs {

struct Environment {
  // How to start the daemon is for this to add.
  std::function<Outcome<int>(const MountConfig&, DaemonStart)> start_daemon = nullptr;
};

// The commands are in two programs: the libraries of archives and images would be half of the
// time that a mount takes.
// `layerfs` has mount_commands() and starts its neighbour layerfs-layers for the others.
struct CommandEntry {
  std::string_view name;
  int (*run)(std::span<const std::string> arguments, const Streams& streams,
             const Environment& environment);
  Command (*describe)();
};
std::span<const CommandEntry> mount_commands();
std::span<const CommandEntry> layer_commands();

// The whole program with what it has of the commands. arguments[0] is the name it was
// called by. Returns the exit code, unless another program takes over.
int run_layerfs(std::span<const std::string> arguments, const Streams& streams,
                const Environment& environment, std::span<const CommandEntry> commands);

// Prints "layerfs: COMMAND: message" as one line, with where to read on after a usage
// error. Without a command: "layerfs: message". Returns the exit code.
int report(const Problem& problem, std::string_view command, const Streams& streams);

// parse_and_run() for one of our commands.
int run_command(const Command& command, std::span<const std::string> arguments,
                const Streams& streams, const CommandBody& body);

// The same for a body that has no exit code of its own.
enum class OnSignal {
  End,
  CleanUp,  // under an InterruptGuard, until what there is to say is said
};
using CommandWork = std::function<Outcome<void>(const std::vector<std::string>& positionals)>;
int run_command(const Command& command, std::span<const std::string> arguments,
                const Streams& streams, OnSignal on_signal, const CommandWork& work);

}  // namespace layerfs
