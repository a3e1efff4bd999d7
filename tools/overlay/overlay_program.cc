// The command line of fuse-overlayfs 1.16 and 2.0, as podman, buildah, containerd and others
// call it:
//   fuse-overlayfs [-f] [-d] [-o OPTIONS]... [SOURCE] MOUNTPOINT
// What it writes can be read without it: no redirect, no metacopy and no index of hard
// links unless asked, since engines read the upper directory themselves.
#include "tools/overlay/overlay_program.h"

#include <algorithm>
#include <array>
#include <optional>

#include "tools/common/daemon.h"
#include "tools/layerfs/mount_options.h"

#ifndef LAYERFS_VERSION
#error "the build defines LAYERFS_VERSION"
#endif

namespace layerfs {
namespace {

// The interface that this is: callers read the number after "version".
constexpr const char* kVersionText =
    "fuse-overlayfs: version 1.16\n"
    "layerfs " LAYERFS_VERSION " in its place\n";

// Words that choose between ways that layerfs chooses by itself, or that only the kernel's
// older interfaces had.
constexpr std::array<std::string_view, 25> kWithoutEffect = {
    "allow_root", "async_read",  "auto_cache",     "big_writes",   "blkdev",
    "context",    "fast_ino",    "fast_ino_check", "hard_remove",  "ino32_t",
    "large_read", "max_read",    "max_readahead",  "kernel_cache", "max_write",
    "nonempty",   "readdir_ino", "splice_move",    "splice_read",  "splice_write",
    "sync_read",  "threaded",    "use_ino",        "writeback",    "xino",
};

// Words of mount(8) that hold unless an option says otherwise.
constexpr std::array kAssumed = {"nodev", "noatime"};

struct OverlayArguments {
  std::vector<std::string> positionals;
  std::vector<std::string> lists;    // each -o
  std::vector<std::string> unknown;  // as they were given
  bool help = false;
  bool version = false;
  bool foreground = false;
  bool debug = false;
};

std::string help_for(const std::string& program) {
  return "Usage: " + program +
         " [-f] [-d] [-o OPTIONS]... [SOURCE] MOUNTPOINT\n"
         "\n"
         "Mounts a layerfs as fuse-overlayfs mounts its filesystem.\n"
         "\n"
         "  -o lowerdir=DIR[:DIR...]    Lower layers, the leftmost on top.\n"
         "  -o upperdir=DIR             Takes the changes; without it nothing can be changed.\n"
         "  -o workdir=DIR              On the filesystem of upperdir.\n"
         "  -o uidmapping=MAP, gidmapping=MAP\n"
         "                              Ids as stored:shown:count, repeated.\n"
         "  -o squash_to_root, squash_to_uid=ID, squash_to_gid=ID\n"
         "  -o xattr_permissions=1|2    Owner, mode and type are kept in an attribute.\n"
         "  -o volatile, fsync=0|1, static_nlink, noacl, noxattrs=0|1, timeout=S\n"
         "  -o redirect_dir=on|off, metacopy=on|off, index=on|off   (default: off)\n"
         "  -o threaded, writeback, xino, fast_ino, context         Accepted, without effect.\n"
         "  -o NAME=VALUE               Any option of 'layerfs mount'; ro, nosuid, nodev, ...\n"
         "  -f, --foreground            Stay until unmounted.\n"
         "  -d, --debug                 The same, with a log of every request.\n"
         "  -h, --help                  Show this text.\n"
         "  -V, --version               Show the version.\n";
}

// Whole words only, as libfuse takes them there: "-fd" is not "-f -d".
Outcome<OverlayArguments> parse_overlay_arguments(std::span<const std::string> arguments) {
  OverlayArguments out;
  const auto is = [](const std::string& argument, std::string_view letter, std::string_view name) {
    return argument == letter || argument == name;
  };
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (is(argument, "-h", "--help")) {
      out.help = true;
    } else if (is(argument, "-V", "--version")) {
      out.version = true;
    } else if (is(argument, "-f", "--foreground")) {
      out.foreground = true;
    } else if (is(argument, "-d", "--debug")) {
      out.debug = true;
    } else if (argument == "-o") {
      if (++i == arguments.size()) {
        return usage_error("option -o needs a value");
      }
      out.lists.push_back(arguments[i]);
    } else if (argument.starts_with("-o")) {
      out.lists.push_back(argument.substr(2));
    } else if (argument == "--") {
      out.positionals.insert(out.positionals.end(),
                             arguments.begin() + static_cast<std::ptrdiff_t>(i) + 1,
                             arguments.end());
      break;
    } else if (argument.size() > 1 && argument[0] == '-') {
      out.unknown.push_back(argument);
    } else {
      out.positionals.push_back(argument);
    }
  }
  return out;
}

MountConfig overlay_defaults() {
  MountConfig config;
  config.redirect = false;
  config.metacopy = false;
  config.index = false;
  config.fsname = "fuse-overlayfs";
  // Nor does fuse-overlayfs know how a mount ended that had volatile or fsync=0.
  config.accept_unclean = true;
  // Engines work as root on mounts whose maps do not have root's id.
  config.unmapped_as_overflow = true;
  return config;
}

Outcome<bool> switch_of(const MountWord& word) {
  if (!word.has_value) {
    return true;
  }
  auto on = parse_switch(word.value);
  return on ? on : usage_error("-o " + word.key + ": " + on.error().message);
}

// What fuse-overlayfs calls otherwise than layerfs does; nullopt: not such a word.
Outcome<std::optional<MountWord>> translate(const MountWord& word) {
  const auto as = [](std::string key, std::string value) {
    return std::optional(MountWord{std::move(key), std::move(value), true});
  };
  if (word.key == "fsync" || (word.key == "sync" && word.has_value)) {
    LFS_ASSIGN(const bool on, switch_of(word));
    return as("volatile", on ? "off" : "on");
  }
  if (word.key == "xattr_permissions") {
    if (word.value != "0" && word.value != "1" && word.value != "2") {
      return usage_error("-o xattr_permissions: '" + word.value + "' is not one of 0, 1, 2");
    }
    return as("override_stat", word.value == "0" ? "auto" : word.value == "1" ? "security" : "on");
  }
  return std::optional<MountWord>();
}

// Its words, not this program's name, before an unknown one: callers look for them.
void tell_of_unknown(const std::string& argument, const Streams& streams) {
  streams.err << "unknown argument ignored: " << argument << '\n';
}

// fuse-overlayfs 1.x takes one level of backslashes off before it looks for escaped
// colons, so that its callers write two; callers of 2.x write one.
MountWord with_single_escapes(MountWord word) {
  if (word.key == "lowerdir" || word.key == "upperdir" || word.key == "workdir") {
    for (std::size_t at = 0; (at = word.value.find("\\\\:", at)) != std::string::npos; ++at) {
      word.value.erase(at, 1);
    }
  }
  return word;
}

struct Given {
  OverlayArguments arguments;
  MountOptions options{overlay_defaults()};
  bool no_xattrs = false;
};

Outcome<void> add_list(Given& given, const std::string& list, const Streams& streams) {
  LFS_ASSIGN(const auto words, split_mount_words(list));
  for (const MountWord& word : words) {
    if (word.key == "noxattrs") {
      LFS_ASSIGN(given.no_xattrs, switch_of(word));
      continue;
    }
    if (word.key == "debug") {
      given.arguments.debug = true;
      continue;
    }
    if (word.key == "remount") {
      return failed("a mount cannot be changed; unmount and mount again");
    }
    if (word.key == "plugins" || (word.key == "lowerdir" && word.value.starts_with("//"))) {
      return failed("-o " + word.key +
                    ": plugins of fuse-overlayfs are not supported; unpack "
                    "the layer to a directory");
    }
    if (std::find(kWithoutEffect.begin(), kWithoutEffect.end(), word.key) != kWithoutEffect.end()) {
      continue;
    }
    LFS_ASSIGN(const auto translated, translate(word));
    LFS_ASSIGN(const bool known,
               given.options.add_word(with_single_escapes(translated.value_or(word))));
    if (!known) {
      tell_of_unknown(word.has_value ? word.key + "=" + word.value : word.key, streams);
    }
  }
  return {};
}

Outcome<int> carry_out(const std::string& program, Given& given, const Streams& streams,
                       const StartDaemon& start_daemon) {
  const OverlayArguments& arguments = given.arguments;
  if (arguments.positionals.empty()) {
    return usage_error("no mount point is given");
  }
  for (const std::string& argument : arguments.unknown) {
    tell_of_unknown(argument, streams);
  }
  for (const char* word : kAssumed) {
    LFS_TRY(given.options.add_word(MountWord{word, "", false}));
  }
  for (const std::string& list : arguments.lists) {
    LFS_TRY(add_list(given, list, streams));
  }
  // mount(8) and mount.fuse3 put the source first; of more words too the last counts.
  given.options.take_source_and_target("", arguments.positionals.back());
  LFS_ASSIGN(MountConfig config, given.options.finish());
  config.xattrs = !given.no_xattrs;
  // The mark that such a mount did not end cleanly would tell nobody anything (accept_unclean),
  // and is all that is synced.
  config.discarded = config.volatile_;
  config.foreground = config.foreground || arguments.foreground || arguments.debug;
  if (arguments.debug) {
    config.log_level = MountConfig::LogLevel::Debug;
  }
  return start_daemon(config, notes_to(streams, program));
}

}  // namespace

int overlay_program(const std::string& program, std::span<const std::string> arguments,
                    const Streams& streams, const StartDaemon& start_daemon) {
  const auto run = [&]() -> Outcome<int> {
    Given given;
    LFS_ASSIGN(given.arguments, parse_overlay_arguments(arguments));
    if (given.arguments.help || given.arguments.version) {
      streams.out << (given.arguments.help ? help_for(program) : kVersionText);
      return to_int(ExitCode::Ok);
    }
    return carry_out(program, given, streams, start_daemon);
  };
  const auto code = run();
  if (code) {
    return *code;
  }
  // Callers of fuse-overlayfs know 1 only.
  streams.err << program << ": " << in_one_line(code.error().message) << '\n';
  return to_int(ExitCode::Failure);
}

}  // namespace layerfs
