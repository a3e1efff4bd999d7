#include "tools/layerfs/commands.h"

namespace layerfs {

std::span<const CommandEntry> layer_commands() {
  static constexpr CommandEntry kEntries[] = {
      {"diff", cmd_diff, describe_diff},       {"commit", cmd_commit, describe_commit},
      {"unpack", cmd_unpack, describe_unpack}, {"store", cmd_store, describe_store},
      {"squash", cmd_squash, describe_squash}, {"convert", cmd_convert, describe_convert},
      {"check", cmd_check, describe_check},
  };
  return kEntries;
}

}  // namespace layerfs
