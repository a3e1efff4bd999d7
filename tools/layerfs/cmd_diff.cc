#include <sys/stat.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "layers/change_walk.h"
#include "layers/mount_config.h"
#include "tools/layerfs/commands.h"
#include "tools/layerfs/instant.h"
#include "tools/layerfs/layer_choice.h"

namespace layerfs {
namespace {

struct DiffOptions {
  LayerWords words;
  bool json = false;
  bool totals = false;
  bool all = false;
};

Command command_for(DiffOptions& options) {
  return Command{
      .program = "layerfs diff",
      .usage = {"UPPER --lower LOWER[:LOWER...] [OPTION...]", "{MOUNTPOINT|CONTAINER} [OPTION...]",
                "BEFORE[:LAYER...] NOW[:LAYER...] [OPTION...]"},
      .summary =
          "Lists what an upper changed over its lowers, what a mount has changed so far, or "
          "what differs between two stacks of layers: A is added, C is changed, D is deleted. "
          "A directory above a change is itself changed.",
      .groups = {{"Options",
                  {lower_option(options.words, "The layers below UPPER, the leftmost on top."),
                   work_option(
                       options.words.work,
                       "The work directory of UPPER, or of NOW's topmost layer, which holds "
                       "the hard links of lower files. Default: .NAME.layerfs-work beside "
                       "it."),
                   {.name = "all",
                    .help = "List also what is in UPPER and equal to what is below.",
                    .apply = [&options](std::string_view) -> Outcome<void> {
                      options.all = true;
                      return {};
                    }},
                   {.name = "json",
                    .help = "Print one JSON document a change, one on each line.",
                    .apply = [&options](std::string_view) -> Outcome<void> {
                      options.json = true;
                      return {};
                    }},
                   {.name = "stat",
                    .help = "Print only how many changes there are, and their sizes.",
                    .apply = [&options](std::string_view) -> Outcome<void> {
                      options.totals = true;
                      return {};
                    }}}}},
      .notes =
          "What differs (type, content, mode, owner, xattr, time) and the sizes of files in\n"
          "bytes follow the path after a tab.",
  };
}

struct Totals {
  std::uint64_t count[3] = {};  // by ChangeKind
  std::uint64_t bytes[3] = {};
  std::uint64_t content = 0;
  std::uint64_t attributes = 0;
};

const char* type_name(mode_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG:
      return "file";
    case S_IFDIR:
      return "directory";
    case S_IFLNK:
      return "symlink";
    case S_IFCHR:
      return "character device";
    case S_IFBLK:
      return "block device";
    case S_IFIFO:
      return "fifo";
    default:
      return "socket";
  }
}

std::vector<const char*> part_names(const ChangedParts& parts) {
  std::vector<const char*> out;
  for (const auto& [differs, name] :
       {std::pair{parts.type, "type"}, std::pair{parts.content, "content"},
        std::pair{parts.mode, "mode"}, std::pair{parts.owner, "owner"},
        std::pair{parts.xattrs, "xattr"}, std::pair{parts.time, "time"}}) {
    if (differs) {
      out.push_back(name);
    }
  }
  return out;
}

char letter(ChangeKind kind) {
  return kind == ChangeKind::Added ? 'A' : kind == ChangeKind::Modified ? 'C' : 'D';
}

const char* word(ChangeKind kind) {
  return kind == ChangeKind::Added ? "added" : kind == ChangeKind::Modified ? "changed" : "deleted";
}

// Of files; a directory's size says nothing.
std::optional<std::uint64_t> size_of(const ViewEntry* entry) {
  if (entry == nullptr || !entry->is_regular()) {
    return std::nullopt;
  }
  return entry->st.stx_size;
}

// One line whatever the name holds.
std::string printable(std::string_view path) {
  constexpr const char* kDigits = "0123456789abcdef";
  std::string out;
  for (const char c : path) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      out += {'\\', 'x', kDigits[byte >> 4U], kDigits[byte & 15U]};
    } else {
      out += c;
    }
  }
  return out;
}

std::string as_line(const Change& change, const ViewEntry* now) {
  std::string out = {letter(change.kind), ' ', '/'};
  out += printable(change.path);
  std::string more;
  for (const char* part : part_names(change.parts)) {
    more += (more.empty() ? "" : ",") + std::string(part);
  }
  const auto size = size_of(now);
  const auto old = size_of(change.before);
  const auto add_size = [&](const std::string& text) { more += (more.empty() ? "" : " ") + text; };
  if (size && old && *size != *old) {
    add_size(std::to_string(*old) + " -> " + std::to_string(*size));
  } else if (size || old) {
    add_size(std::to_string(size ? *size : *old));
  }
  return out + (more.empty() ? "" : "\t" + more) + "\n";
}

std::string as_json(const Change& change, const ViewEntry* now) {
  nlohmann::json out = {{"change", word(change.kind)},
                        {"path", bytes_to_json("/" + change.path)},
                        {"type", type_name((now != nullptr ? now : change.before)->identity.mode)}};
  if (change.kind == ChangeKind::Modified) {
    out["what"] = part_names(change.parts);
  }
  if (const auto size = size_of(now)) {
    out["size"] = *size;
  }
  if (const auto size = size_of(change.before)) {
    out["old_size"] = *size;
  }
  return out.dump() + "\n";
}

void count(Totals& totals, const Change& change, const ViewEntry* now) {
  const auto kind = static_cast<std::size_t>(change.kind);
  const bool only_above = change.kind == ChangeKind::Modified && !change.parts.any();
  if (only_above) {
    return;
  }
  ++totals.count[kind];
  totals.bytes[kind] += size_of(now != nullptr ? now : change.before).value_or(0);
  if (change.kind == ChangeKind::Modified) {
    ++(change.parts.content || change.parts.type ? totals.content : totals.attributes);
  }
}

std::string as_text(const Totals& totals) {
  std::string out;
  for (const ChangeKind kind : {ChangeKind::Added, ChangeKind::Modified, ChangeKind::Deleted}) {
    const auto i = static_cast<std::size_t>(kind);
    out += std::to_string(totals.count[i]) + " " + word(kind) + ", " +
           std::to_string(totals.bytes[i]) + " bytes";
    if (kind == ChangeKind::Modified) {
      out += " (" + std::to_string(totals.content) + " in content, " +
             std::to_string(totals.attributes) + " in attributes only)";
    }
    out += "\n";
  }
  return out;
}

nlohmann::json as_json(const Totals& totals) {
  nlohmann::json out;
  for (const ChangeKind kind : {ChangeKind::Added, ChangeKind::Modified, ChangeKind::Deleted}) {
    const auto i = static_cast<std::size_t>(kind);
    out[word(kind)] = {{"count", totals.count[i]}, {"bytes", totals.bytes[i]}};
  }
  out["changed"]["content"] = totals.content;
  out["changed"]["attributes"] = totals.attributes;
  return out;
}

// The root's time tells only that names came or went in it, and they are listed.
bool is_time_of_root(const Change& change) {
  const ChangedParts& p = change.parts;
  return change.path.empty() && !(p.type || p.content || p.mode || p.owner || p.xattrs);
}

Result<void, Failure> say(std::string_view text, std::ostream& out) {
  return out << text ? Result<void, Failure>() : Failure{"cannot write to standard output"};
}

// What is to be printed: put aside while a mount must not be kept waiting for who reads it.
class Lines {
 public:
  static Outcome<Lines> create(bool aside) {
    Lines lines;
    if (aside) {
      lines.file_.reset(std::tmpfile());
      if (!lines.file_) {
        return failed("cannot make a temporary file: " + describe(Errno::last()));
      }
    }
    return lines;
  }

  Result<void, Failure> add(const std::string& line, std::ostream& out) {
    if (!file_) {
      return say(line, out);
    }
    return std::fwrite(line.data(), 1, line.size(), file_.get()) == line.size()
               ? Result<void, Failure>()
               : Failure{"cannot write a temporary file: " + describe(Errno::last())};
  }

  Outcome<void> show(std::ostream& out) {
    if (!file_) {
      return {};
    }
    std::rewind(file_.get());
    std::array<char, 64 * 1024> buffer{};
    while (const std::size_t n = std::fread(buffer.data(), 1, buffer.size(), file_.get())) {
      if (const auto said = say({buffer.data(), n}, out); !said) {
        return failed(said.error().message);
      }
    }
    return std::ferror(file_.get()) == 0
               ? Outcome<void>()
               : failed("cannot read a temporary file: " + describe(Errno::last()));
  }

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::unique_ptr<std::FILE, Close> file_;
};

Outcome<void> run(const std::vector<std::string>& positionals, const DiffOptions& options,
                  const Streams& streams) {
  if (positionals.empty() || positionals.size() > 2) {
    return usage_error(positionals.empty() ? "neither an upper nor a mount point is given"
                                           : "unexpected argument '" + positionals[2] + "'");
  }
  std::vector<std::string> before;
  LayerChoice choice;
  if (positionals.size() == 2) {
    if (!options.words.lowers.empty()) {
      return usage_error("two stacks are complete; leave out --lower");
    }
    LFS_ASSIGN(choice, choose_between(positionals[0], positionals[1], options.words.work, before));
  } else {
    LFS_ASSIGN(choice, choose_layers(positionals[0], options.words));
    if (!choice.mount && choice.lowers.empty()) {
      return usage_error("the layers below '" + positionals[0] + "' are not given; name them " +
                         "with --lower");
    }
  }
  LFS_ASSIGN(const auto layers, OpenLayers::open(choice, before));
  Instant instant(choice, *layers);
  LFS_TRY(instant.begin());
  LFS_ASSIGN(Lines lines, Lines::create(instant.is_short()));
  ChangeOptions walk;
  walk.unchanged = options.all;
  walk.exact_content = true;
  Totals totals;
  const auto show = [&](const Change& change) -> Result<void, Failure> {
    const ViewEntry* now = change.now == nullptr ? nullptr : &change.now->entry();
    if (is_time_of_root(change) && !options.all) {
      return {};
    }
    if (options.totals) {
      count(totals, change, now);
    } else {
      return lines.add(options.json ? as_json(change, now) : as_line(change, now), streams.out);
    }
    return {};
  };
  if (const auto walked = walk_changes(layers->before(), layers->now(), walk, show); !walked) {
    return failed(walked.error().message);
  }
  LFS_TRY(instant.end());
  LFS_TRY(lines.show(streams.out));
  if (options.totals) {
    streams.out << (options.json ? as_json(totals).dump() + "\n" : as_text(totals));
  }
  return {};
}

}  // namespace

Command describe_diff() {
  static DiffOptions unused;
  return command_for(unused);
}

int cmd_diff(Arguments arguments, const Streams& streams, const Environment& /*environment*/) {
  DiffOptions options;
  return run_command(command_for(options), arguments, streams, OnSignal::End,
                     [&](const std::vector<std::string>& positionals) {
                       return run(positionals, options, streams);
                     });
}

}  // namespace layerfs
