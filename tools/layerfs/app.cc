#include "tools/layerfs/app.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <optional>

#include "tools/common/interrupt.h"
#include "tools/layerfs/commands.h"

#ifndef LAYERFS_VERSION
#error "the build defines LAYERFS_VERSION"
#endif

namespace layerfs {
namespace {

// The commands of both programs, in the order of the help text.
struct Entry {
  std::string_view name;
  const char* summary;
};

constexpr Entry kCommands[] = {
    {"mount", "Mount layers as one tree."},
    {"umount", "Unmount, and wait until everything is written."},
    {"stats", "Show what a mount negotiated, its requests and its caches."},
    {"diff", "List what was added, changed and deleted."},
    {"commit", "Make a layer or an image of what was changed."},
    {"unpack", "Unpack an image's layers into a store."},
    {"store", "Show and clean up a store of layers."},
    {"squash", "Make one layer of several."},
    {"convert", "Write a layer's whiteouts in another form."},
    {"check", "Find and mend what a crash left in an upper."},
    {"which", "Show which layer provides a path."},
};

// Does not return if layerfs-layers could be started.
Outcome<void> go_on_as_layers(Arguments arguments) {
  LFS_ASSIGN(const std::string program, find_beside_self("layerfs-layers"));
  std::error_code error;
  if (std::filesystem::equivalent(program, "/proc/self/exe", error)) {
    return failed("this is layerfs-layers, which has only the commands on layers; call layerfs");
  }
  std::vector<char*> words;
  std::vector<std::string> copies(arguments.begin(), arguments.end());
  for (std::string& copy : copies) {
    words.push_back(copy.data());
  }
  words.push_back(nullptr);
  ::execv(program.c_str(), words.data());
  return failed("cannot start " + program + ": " + describe(Errno::last()) + "; install it again");
}

std::string top_help() {
  std::string out =
      "Usage: layerfs COMMAND [ARGUMENT...]\n"
      "       layerfs --help | --version\n"
      "\n"
      "A union filesystem: read-only lower layers under one writable upper layer.\n"
      "\n"
      "Commands:\n";
  for (const Entry& entry : kCommands) {
    std::string line = "  " + std::string(entry.name);
    line.resize(10, ' ');
    out += line + entry.summary + "\n";
  }
  out +=
      "\n"
      "Options:\n"
      "  -h, --help     Show this text; layerfs COMMAND --help tells more.\n"
      "  -V, --version  Show the version.\n"
      "\n"
      "Exit codes: 0 done, 1 failed, 2 not understood.\n";
  return out;
}

std::string base_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

bool is_helper_name(const std::string& name) {
  return name == "mount.layerfs" || name == "mount.fuse.layerfs";
}

// mount.fuse3 runs the filesystem's own program as `layerfs SOURCE TARGET -o OPTIONS`.
bool is_called_by_mount_fuse(Arguments arguments) {
  return arguments.size() >= 4 && arguments[2] == "-o" && !arguments[0].starts_with('-');
}

}  // namespace

int report(const Problem& problem, std::string_view command, const Streams& streams) {
  streams.err << "layerfs: " << command << (command.empty() ? "" : ": ")
              << in_one_line(problem.message);
  if (problem.code == ExitCode::Usage) {
    streams.err << "; see 'layerfs " << command << (command.empty() ? "" : " ") << "--help'";
  }
  streams.err << '\n';
  return to_int(problem.code);
}

int run_command(const Command& command, std::span<const std::string> arguments,
                const Streams& streams, const CommandBody& body) {
  constexpr std::string_view kProgram = "layerfs ";
  const std::string name = command.program.substr(kProgram.size());
  return parse_and_run(
      command, arguments, streams.out,
      [&](const Problem& problem) { return report(problem, name, streams); }, body);
}

int run_command(const Command& command, std::span<const std::string> arguments,
                const Streams& streams, OnSignal on_signal, const CommandWork& work) {
  std::optional<InterruptGuard> guard;
  return run_command(command, arguments, streams,
                     [&](const std::vector<std::string>& positionals) -> Outcome<int> {
                       if (on_signal == OnSignal::CleanUp) {
                         guard.emplace();
                       }
                       LFS_TRY(work(positionals));
                       return to_int(ExitCode::Ok);
                     });
}

int run_layerfs(Arguments arguments, const Streams& streams, const Environment& environment,
                std::span<const CommandEntry> commands) {
  const std::string called = arguments.empty() ? "layerfs" : base_name(arguments[0]);
  const Arguments rest = arguments.empty() ? arguments : arguments.subspan(1);
  if (is_helper_name(called)) {
    return mount_helper(called, rest, streams, environment);
  }
  if (rest.empty()) {
    return report(usage_error("no command is given"), "", streams);
  }
  const std::string& first = rest[0];
  if (first == "-h" || first == "--help" || (first == "help" && rest.size() == 1)) {
    streams.out << top_help();
    return to_int(ExitCode::Ok);
  }
  if (first == "-V" || first == "--version") {
    streams.out << "layerfs " LAYERFS_VERSION "\n";
    return to_int(ExitCode::Ok);
  }
  for (const CommandEntry& entry : commands) {
    if (first == entry.name) {
      return entry.run(rest.subspan(1), streams, environment);
    }
  }
  if (std::ranges::find(kCommands, first, &Entry::name) != std::end(kCommands)) {
    const auto gone = go_on_as_layers(arguments);
    return report(gone.error(), first, streams);
  }
  if (is_called_by_mount_fuse(rest)) {
    return mount_helper("mount.fuse.layerfs", rest, streams, environment);
  }
  if (first.starts_with('-')) {
    return report(usage_error("unknown option '" + first + "'"), "", streams);
  }
  return report(usage_error("unknown command '" + first + "'"), "", streams);
}

}  // namespace layerfs
