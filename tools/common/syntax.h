// The small languages of the command line: layer lists, mount(8) option lists, id
// mappings, numbers. Pure functions; no message names the option, the caller does.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "layers/mount_config.h"
#include "tools/common/problem.h"

namespace layerfs {

// `\:`, `\\` and `\,` stand for the character itself, as in overlayfs' options. Any
// other backslash stands for itself, so that a path pasted unescaped is not changed.
std::string unescape_path(std::string_view text);

// "A:B:C", top first, each unescaped. A usage error if the list or a component is empty.
Outcome<std::vector<std::string>> split_layers(std::string_view text);

// One item of a mount(8) list: "key" or "key=value".
struct MountWord {
  std::string key;
  std::string value;  // quotes removed, backslashes kept
  bool has_value = false;
  friend bool operator==(const MountWord&, const MountWord&) = default;
};

// Splits at commas that are neither escaped by a backslash nor inside double quotes.
// Empty items are dropped, as mount(8) does. A usage error if a quote is not closed.
Outcome<std::vector<MountWord>> split_mount_words(std::string_view text);

// fuse-overlayfs' syntax: stored:shown:count, repeated, with or without a leading
// colon. A usage error for ids beyond 32 bits, sizes of 0, or ranges that overlap.
Outcome<std::vector<IdRange>> parse_id_map(std::string_view text);

// A decimal user or group id; 4294967295 means "none" to the kernel and is refused.
Outcome<std::int64_t> parse_id(std::string_view text);
// Seconds, 0 or more, fractions allowed.
Outcome<double> parse_seconds(std::string_view text);
// An integer from `least` to `most`.
Outcome<int> parse_int(std::string_view text, int least, int most);
// "512m": bytes, at most 2^63 - 1; b, k, m, g and t, small or capital, mean powers of 1024.
Outcome<std::uint64_t> parse_size(std::string_view text);
// on|yes|true|1 or off|no|false|0.
Outcome<bool> parse_switch(std::string_view text);

}  // namespace layerfs
