#include "tools/layerfs/commands.h"
#include "tools/layerfs/mount_options.h"

namespace layerfs {
namespace {

Command command_for(const MountOptions& options) {
  return Command{
      .program = "layerfs mount",
      .usage = {"LOWER[:LOWER...] [UPPER] MOUNTPOINT [OPTION...]",
                "--layers LOWER[:LOWER...] [UPPER] MOUNTPOINT [OPTION...]",
                "-o lowerdir=LOWER[:LOWER...][,upperdir=UPPER] MOUNTPOINT [OPTION...]"},
      .summary =
          "Mounts the LOWERs, the leftmost on top, with UPPER over them as one tree at "
          "MOUNTPOINT. All changes go to UPPER; without it the mount is read-only. Returns "
          "when the mount answers.",
      .groups = options.groups(),
      .notes = "In a layer's name write '\\:' for a colon and '\\\\' for a backslash.",
  };
}

}  // namespace

Command describe_mount() {
  // Its options point into it, and are not called by who asks for a description.
  const MountOptions options;
  return command_for(options);
}

int cmd_mount(Arguments arguments, const Streams& streams, const Environment& environment) {
  MountOptions options;
  const auto mount = [&](const std::vector<std::string>& positionals) -> Outcome<int> {
    if (options.remount()) {
      return cannot_remount(positionals.empty() ? "MOUNTPOINT" : positionals.back());
    }
    LFS_TRY(options.take_positionals(positionals));
    LFS_ASSIGN(const MountConfig config, options.finish());
    return environment.start_daemon(config,
                                    DaemonStart{.note = notes_to(streams, "layerfs: mount")});
  };
  return run_command(command_for(options), arguments, streams, mount);
}

}  // namespace layerfs
