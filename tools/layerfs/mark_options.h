// How a layer that a command makes is stored: the options that several commands have.
#pragma once

#include <optional>
#include <string_view>

#include "tools/common/command_line.h"
#include "whiteout/marks.h"

namespace layerfs {

struct MarkChoice {
  std::optional<WhiteoutForm> form;   // nullopt: what the filesystem can hold
  std::optional<bool> override_stat;  // nullopt: where owners cannot be set
};

// "overlay" or "oci".
Outcome<WhiteoutForm> parse_whiteout_form(std::string_view text);
// --whiteout and --override-stat.
Option whiteout_option(MarkChoice& choice);
Option override_stat_option(MarkChoice& choice);

}  // namespace layerfs
