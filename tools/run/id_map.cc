#include "tools/run/id_map.h"

#include <fcntl.h>
#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <limits>

#include "tools/common/process.h"
#include "tools/run/text_file.h"

namespace layerfs::run {
namespace {

// "1 file: 65536 ids" is what newuidmap allows at most as arguments of one call; the
// kernel takes 340 lines.
constexpr std::size_t kMostRanges = 340;

std::vector<std::string_view> fields_of(std::string_view line) {
  std::vector<std::string_view> out;
  for (;;) {
    const std::size_t end = line.find(':');
    out.push_back(line.substr(0, end));
    if (end == std::string_view::npos) {
      return out;
    }
    line.remove_prefix(end + 1);
  }
}

std::optional<std::uint32_t> number(std::string_view text) {
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) {
    return std::nullopt;
  }
  return value;
}

Outcome<void> write_proc(pid_t pid, const char* file, const std::string& text) {
  const std::string path = "/proc/" + std::to_string(pid) + "/" + file;
  return write_text(path, text);
}

Outcome<void> run_helper(const char* name, pid_t pid, const std::vector<IdRange>& map) {
  const auto program = find_program(name);
  if (!program) {
    return failed(std::string(name) + " is not installed (Debian package uidmap)");
  }
  std::vector<std::string> argv = {*program, std::to_string(pid)};
  for (const IdRange& range : map) {
    for (const std::uint32_t value : {range.stored, range.shown, range.count}) {
      argv.push_back(std::to_string(value));
    }
  }
  LFS_ASSIGN(const Finished done, run_to_end(argv));
  if (done.status != 0) {
    std::string why = done.error_text;
    while (!why.empty() && why.back() == '\n') {
      why.pop_back();
    }
    return failed(std::string(name) + " " + describe_wait_status(done.status) + ": " + why);
  }
  return {};
}

Outcome<std::vector<IdRange>> read_subordinate(const char* file, std::string_view name, uid_t uid) {
  LFS_ASSIGN(const auto text, read_text_if_there(file));
  if (!text) {
    return std::vector<IdRange>{};
  }
  auto ranges = subordinate_ids(*text, name, uid);
  if (!ranges) {
    return failed(std::string(file) + ": " + ranges.error().message);
  }
  return ranges;
}

Outcome<std::vector<IdRange>> own_ids(const char* file) {
  LFS_ASSIGN(const std::string text, read_text(file));
  std::vector<IdRange> out;
  for (std::size_t start = 0; start < text.size();) {
    const std::size_t end = std::min(text.find('\n', start), text.size());
    unsigned long inside = 0;
    unsigned long size = 0;
    if (std::sscanf(text.substr(start, end - start).c_str(), "%lu %*u %lu", &inside, &size) != 2) {
      return failed(std::string(file) + " has a form that is not understood");
    }
    const auto first = static_cast<std::uint32_t>(inside);
    out.push_back({first, first, static_cast<std::uint32_t>(size)});
    start = end + 1;
  }
  return out;
}

}  // namespace

Outcome<std::vector<IdRange>> subordinate_ids(std::string_view text, std::string_view name,
                                              uid_t uid) {
  std::vector<IdRange> out;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const auto fields = fields_of(line);
    if (fields[0].empty() || (fields[0] != name && fields[0] != std::to_string(uid))) {
      continue;
    }
    const auto first = fields.size() == 3 ? number(fields[1]) : std::nullopt;
    const auto count = fields.size() == 3 ? number(fields[2]) : std::nullopt;
    if (!first || !count ||
        std::uint64_t{*first} + *count > std::numeric_limits<std::uint32_t>::max()) {
      return failed("the line '" + std::string(line) + "' is not NAME:FIRST:COUNT");
    }
    if (*count > 0) {
      out.push_back({0, *first, *count});
    }
  }
  return out;
}

std::vector<IdRange> with_caller_as_root(unsigned caller, const std::vector<IdRange>& subordinate) {
  std::vector<IdRange> out = {{0, caller, 1}};
  std::uint64_t next = 1;
  for (const IdRange& range : subordinate) {
    const std::uint64_t room = std::numeric_limits<std::uint32_t>::max() - next;
    const std::uint64_t size = std::min<std::uint64_t>(range.count, room);
    if (size == 0 || out.size() == kMostRanges) {
      break;
    }
    out.push_back(
        {static_cast<std::uint32_t>(next), range.shown, static_cast<std::uint32_t>(size)});
    next += size;
  }
  return out;
}

std::string map_text(const std::vector<IdRange>& map) {
  std::string out;
  for (const IdRange& range : map) {
    out += std::to_string(range.stored) + " " + std::to_string(range.shown) + " " +
           std::to_string(range.count) + "\n";
  }
  return out;
}

bool is_mapped(const std::vector<IdRange>& map, std::uint32_t container) {
  return std::any_of(map.begin(), map.end(), [&](const IdRange& range) {
    return container >= range.stored && container - range.stored < range.count;
  });
}

std::uint64_t mapped_from_zero(const std::vector<IdRange>& map) {
  std::uint64_t next = 0;
  for (bool grown = true; grown;) {
    grown = false;
    for (const IdRange& range : map) {
      if (range.stored <= next && std::uint64_t{range.stored} + range.count > next) {
        next = std::uint64_t{range.stored} + range.count;
        grown = true;
      }
    }
  }
  return next;
}

Outcome<IdMaps> maps_of_caller() {
  const uid_t uid = ::getuid();
  const passwd* entry = ::getpwuid(uid);  // NOLINT(concurrency-mt-unsafe): one thread
  const std::string name = entry == nullptr ? std::string() : entry->pw_name;
  LFS_ASSIGN(const auto subuids, read_subordinate("/etc/subuid", name, uid));
  LFS_ASSIGN(const auto subgids, read_subordinate("/etc/subgid", name, uid));
  IdMaps out;
  const bool ranges = !subuids.empty() && !subgids.empty();
  if (ranges && find_program("newuidmap") && find_program("newgidmap")) {
    out.uids = with_caller_as_root(uid, subuids);
    out.gids = with_caller_as_root(::getgid(), subgids);
  } else {
    out.uids = with_caller_as_root(uid, {});
    out.gids = with_caller_as_root(::getgid(), {});
    out.deny_setgroups = true;
  }
  return out;
}

Outcome<IdMaps> identity_maps() {
  IdMaps out;
  LFS_ASSIGN(out.uids, own_ids("/proc/self/uid_map"));
  LFS_ASSIGN(out.gids, own_ids("/proc/self/gid_map"));
  return out;
}

Outcome<void> write_maps(pid_t pid, const IdMaps& maps, bool privileged) {
  if (maps.deny_setgroups) {
    LFS_TRY(write_proc(pid, "setgroups", "deny"));
  }
  const bool alone = maps.uids.size() == 1 && maps.uids[0].count == 1;
  if (privileged || (alone && maps.deny_setgroups)) {
    LFS_TRY(write_proc(pid, "gid_map", map_text(maps.gids)));
    return write_proc(pid, "uid_map", map_text(maps.uids));
  }
  LFS_TRY(run_helper("newgidmap", pid, maps.gids));
  return run_helper("newuidmap", pid, maps.uids);
}

}  // namespace layerfs::run
