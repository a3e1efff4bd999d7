#include "tools/layerfs/commands.h"

namespace layerfs {

std::span<const CommandEntry> mount_commands() {
  static constexpr CommandEntry kEntries[] = {
      {"mount", cmd_mount, describe_mount},
      {"umount", cmd_umount, describe_umount},
      {"stats", cmd_stats, describe_stats},
      {"which", cmd_which, describe_which},
  };
  return kEntries;
}

}  // namespace layerfs
