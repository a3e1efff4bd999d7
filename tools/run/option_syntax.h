// The small languages of single options. Pure functions; no message names the option.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tools/common/problem.h"
#include "tools/run/run_config.h"

namespace layerfs::run {

// SOURCE:TARGET[:WORD,...]; words: ro, rw, noexec, exec, nosuid, suid, dev, nodev,
// [r]private, [r]slave, [r]shared. `here`: what a relative SOURCE is relative to.
Outcome<Volume> parse_volume(std::string_view text, const std::string& here);
// TARGET[:WORD,...]; words: ro, rw, noexec, exec, size=..., mode=...
Outcome<Volume> parse_tmpfs(std::string_view text);
// NAME=SOFT[:HARD]; -1 or "unlimited" for no limit.
Outcome<RLimit> parse_ulimit(std::string_view text);
// The lines NAME=VALUE of a file; a NAME alone takes the caller's value, if there is one.
// Empty lines and lines that begin with # are left out.
Outcome<std::vector<std::string>> parse_environment_file(std::string_view text);
// NAME=VALUE, or NAME for the caller's value; empty if the caller has none.
Outcome<std::vector<std::string>> parse_environment(std::string_view text);
// "10m": bits a second; k, m and g mean powers of 1000, as networks have it.
Outcome<std::uint64_t> parse_rate(std::string_view text);
// [ADDRESS:]HOST:CONTAINER[/udp|/tcp] or PORT alone.
Outcome<Port> parse_port(std::string_view text);
// A host name of letters, digits, '-' and '.', at most 64 characters.
Outcome<std::string> parse_hostname(std::string_view text);

}  // namespace layerfs::run
