#include "tools/layerfs/mount_options.h"

#include <algorithm>
#include <array>
#include <utility>

namespace layerfs {
namespace {

constexpr int kMostDaemonThreads = 1024;

// `-o` spellings that are not the long option with '_' for '-'.
struct Alias {
  std::string_view word;
  std::string_view option;
};
constexpr std::array kAliases = {
    Alias{"workdir", "work"},
    Alias{"redirect-dir", "redirect"},
    Alias{"noacl", "no-acl"},
    Alias{"noallow-other", "no-allow-other"},
};

// Words of mount(8) about the mount's flags: which question each answers, and whether it
// must be handed on (the others ask for the default).
struct Generic {
  std::string_view word;
  std::string_view question;
  bool hand_on;
};
constexpr std::array kGeneric = {
    Generic{"suid", "suid", true},
    Generic{"nosuid", "suid", true},
    Generic{"dev", "dev", true},
    Generic{"nodev", "dev", true},
    Generic{"exec", "exec", false},
    Generic{"noexec", "exec", true},
    Generic{"atime", "atime", false},
    Generic{"noatime", "atime", true},
    Generic{"relatime", "atime", false},
    Generic{"norelatime", "atime", false},
    Generic{"strictatime", "atime", false},  // libfuse has no such word (SEMANTICS.md, S-22)
    Generic{"nostrictatime", "atime", false},
    Generic{"diratime", "diratime", false},
    Generic{"nodiratime", "diratime", true},
    Generic{"sync", "sync", true},
    Generic{"async", "sync", false},
    Generic{"dirsync", "dirsync", true},
    Generic{"lazytime", "lazytime", false},  // nor this
    Generic{"nolazytime", "lazytime", false},
    Generic{"symfollow", "symfollow", false},
    Generic{"nosymfollow", "symfollow", true},
};

// For mount(8), systemd and people only; or what is always so for a layerfs.
constexpr std::array<std::string_view, 18> kIgnored = {"defaults",
                                                       "auto",
                                                       "noauto",
                                                       "nofail",
                                                       "_netdev",
                                                       "nouser",
                                                       "nousers",
                                                       "silent",
                                                       "loud",
                                                       "mand",
                                                       "nomand",
                                                       "iversion",
                                                       "noiversion",
                                                       "comment",
                                                       "helper",
                                                       "uhelper",
                                                       "default_permissions",
                                                       "subtype"};

bool is_ignored(std::string_view key) {
  return key.starts_with("x-") || key.starts_with("X-") ||
         std::find(kIgnored.begin(), kIgnored.end(), key) != kIgnored.end();
}

std::string dashed(std::string_view key) {
  std::string out(key);
  std::replace(out.begin(), out.end(), '_', '-');
  return out;
}

Problem prefixed(const std::string& name, const Problem& problem) {
  return Problem{problem.code, "-o " + name + ": " + problem.message};
}

}  // namespace

MountOptions::MountOptions(MountConfig defaults) : config_(std::move(defaults)) { define(); }

void MountOptions::end_group(std::string title) {
  OptionGroup group{std::move(title), {}};
  for (; grouped_ < settings_.size(); ++grouped_) {
    group.options.push_back(settings_[grouped_].option);
  }
  groups_.push_back(std::move(group));
}

void MountOptions::flag(Option option, std::function<void(bool)> toggle) {
  option.apply = [toggle](std::string_view) -> Outcome<void> {
    toggle(true);
    return {};
  };
  settings_.push_back({std::move(option), std::move(toggle)});
}

void MountOptions::valued(Option option, std::function<Outcome<void>(std::string_view)> apply) {
  option.apply = std::move(apply);
  settings_.push_back({std::move(option), nullptr});
}

void MountOptions::path(Option option, std::string& target) {
  option.value = option.value.empty() ? "DIR" : option.value;
  valued(std::move(option), [&target](std::string_view text) -> Outcome<void> {
    if (text.empty()) {
      return usage_error("the path is empty");
    }
    target = unescape_path(text);
    return {};
  });
}

void MountOptions::on_off(Option option, bool& target) {
  option.value = "on|off";
  valued(std::move(option), [&target](std::string_view text) -> Outcome<void> {
    LFS_ASSIGN(target, parse_switch(text));
    return {};
  });
}

template <class E>
void MountOptions::choice(const Option& option, E& target) {
  const std::string choices = option.value;
  valued(option, [&target, choices](std::string_view text) -> Outcome<void> {
    if (!from_string(text, target)) {
      return usage_error("'" + std::string(text) + "' is not one of " + choices);
    }
    return {};
  });
}

void MountOptions::id_map(Option option, std::vector<IdRange>& target) {
  option.value = "MAP";
  valued(std::move(option), [&target](std::string_view text) -> Outcome<void> {
    LFS_ASSIGN(target, parse_id_map(text));
    return {};
  });
}

void MountOptions::id(Option option, std::int64_t& target) {
  option.value = "ID";
  valued(std::move(option), [&target](std::string_view text) -> Outcome<void> {
    LFS_ASSIGN(target, parse_id(text));
    return {};
  });
}

void MountOptions::define() {
  MountConfig& c = config_;
  valued({.name = "layers",
          .value = "LOWER[:LOWER...]",
          .help = "The lowers, as layerfs unpack prints them, in place of the first argument."},
         [this](std::string_view text) -> Outcome<void> {
           LFS_ASSIGN(config_.lowers, split_layers(text));
           lowers_by_option_ = true;
           return {};
         });
  path({.name = "init", .help = "The init layer: between the lowers and UPPER, written in place."},
       c.init);
  path({.name = "work",
        .help = "Where changes are prepared; on the filesystem of UPPER, and used by no other "
                "mount (default: .NAME.layerfs-work beside UPPER)."},
       c.work);
  flag({.name = "read-only", .help = "Refuse all changes, also with an UPPER."},
       [&c](bool on) { c.read_only = on; });
  flag({.name = "volatile", .help = "Do not wait for disks; after a crash UPPER may be useless."},
       [&c](bool on) { c.volatile_ = on; });
  end_group("Layers");

  choice({.name = "whiteout",
          .value = "auto|overlay|oci",
          .help = "How deletions are written: as kernel overlayfs does, or as .wh. files "
                  "(default: what UPPER can carry)."},
         c.whiteout);
  choice({.name = "xattr",
          .value = "auto|trusted|user",
          .help = "Namespace of the attributes that are written (default: trusted if permitted)."},
         c.xattr);
  on_off({.name = "redirect", .help = "Let directories of lowers be renamed (default: on)."},
         c.redirect);
  on_off({.name = "metacopy",
          .help = "Copy no data for a change of owner, mode or times (default: on)."},
         c.metacopy);
  on_off(
      {.name = "index", .help = "Keep hard links together when they are copied up (default: on)."},
      c.index);
  flag({.name = "acl", .help = "Honour and store POSIX ACLs (default)."},
       [&c](bool on) { c.acl = on; });
  flag({.name = "no-acl", .help = "Refuse POSIX ACLs."}, [&c](bool on) { c.acl = !on; });
  flag({.name = "static-nlink", .help = "Report 1 link for every directory."},
       [&c](bool on) { c.static_nlink = on; });
  end_group("What is stored");

  choice({.name = "override-stat",
          .value = "auto|on|off|security",
          .help = "Store owner, mode and type in user.containers.override_stat, or in "
                  "security.fuseoverlayfs.override_stat (default: where they cannot be set)."},
         c.override_stat);
  flag({.name = "squash-to-root", .help = "Show everything as owned by 0:0."}, [&c](bool on) {
    c.squash_uid = on ? 0 : MountConfig::kNoSquash;
    c.squash_gid = on ? 0 : MountConfig::kNoSquash;
  });
  id({.name = "squash-to-uid", .help = "Show everything as owned by this user."}, c.squash_uid);
  id({.name = "squash-to-gid", .help = "Show everything as owned by this group."}, c.squash_gid);
  id_map(
      {.name = "uidmapping",
       .help = "User ids, as stored:shown:count, repeated; for example 0:1000:1:1:100000:65536."},
      c.uid_map);
  id_map({.name = "gidmapping", .help = "Group ids, in the same way."}, c.gid_map);
  end_group("Owners");

  flag({.name = "allow-other", .help = "Let other users in (default: for root)."}, [&c](bool on) {
    c.allow_other = on ? MountConfig::AllowOther::Yes : MountConfig::AllowOther::No;
  });
  flag({.name = "no-allow-other", .help = "Keep other users out."}, [&c](bool on) {
    c.allow_other = on ? MountConfig::AllowOther::No : MountConfig::AllowOther::Yes;
  });
  choice({.name = "io",
          .value = "auto|passthrough|cached",
          .help = "Who moves file data: the kernel between its own files, or the daemon with the "
                  "kernel's cache (default: what is permitted and faster)."},
         c.io);
  valued({.name = "threads",
          .value = "N",
          .help = "Threads that serve requests; 0: automatic (default)."},
         [&c](std::string_view text) -> Outcome<void> {
           LFS_ASSIGN(c.threads, parse_int(text, 0, kMostDaemonThreads));
           return {};
         });
  valued(
      {.name = "timeout",
       .value = "S",
       .help = "Seconds for which the kernel may trust names and attributes (default: for ever)."},
      [&c](std::string_view text) -> Outcome<void> {
        LFS_ASSIGN(c.timeout, parse_seconds(text));
        return {};
      });
  end_group("Access and speed");

  flag({.name = "foreground",
        .letter = 'f',
        .help = "Stay until unmounted; SIGINT and SIGTERM unmount."},
       [&c](bool on) { c.foreground = on; });
  choice({.name = "log-level",
          .value = "error|warn|info|debug|trace",
          .help = "What the daemon writes to its log (default: info)."},
         c.log_level);
  path({.name = "log-file", .value = "FILE", .help = "Where the daemon writes its log."},
       c.log_file);
  valued({.name = "fsname",
          .value = "NAME",
          .help = "Source shown in /proc/mounts (default: layerfs)."},
         [&c](std::string_view text) -> Outcome<void> {
           if (text.empty()) {
             return usage_error("the name is empty");
           }
           c.fsname = unescape_path(text);
           return {};
         });
  // In itself no word of a list, hence not in settings_ but only in the group.
  end_group("Daemon");
  groups_.back().options.push_back(
      {.name = "options",
       .letter = 'o',
       .value = "LIST",
       .help = "Options of mount(8): lowerdir=, upperdir=, workdir=, any of the above as "
               "NAME=VALUE, and ro, nosuid, nodev, noexec, noatime, ...",
       .apply = [this](std::string_view text) { return add_words(text, UnknownWords::Refuse); }});
}

const MountOptions::Setting* MountOptions::find(std::string_view key) const {
  std::string name = dashed(key);
  for (const Alias& alias : kAliases) {
    if (alias.word == name) {
      name = alias.option;
    }
  }
  const auto found = std::find_if(settings_.begin(), settings_.end(), [&](const Setting& setting) {
    return setting.option.name == name;
  });
  return found == settings_.end() ? nullptr : &*found;
}

Outcome<void> MountOptions::add_words(std::string_view list, UnknownWords unknown) {
  LFS_ASSIGN(const auto words, split_mount_words(list));
  // mount(8) adds what the kernel shows of the present mount to it, which is not for us.
  remount_ = remount_ || std::any_of(words.begin(), words.end(),
                                     [](const MountWord& word) { return word.key == "remount"; });
  if (remount_) {
    return {};
  }
  for (const MountWord& word : words) {
    LFS_ASSIGN(const bool known, add_word(word));
    if (!known && unknown == UnknownWords::Refuse) {
      return usage_error("unknown mount option '" + word.key + "'");
    }
  }
  return {};
}

Outcome<bool> MountOptions::add_word(const MountWord& word) {
  LFS_ASSIGN(const bool is_layer, add_layer_word(word));
  if (is_layer || add_generic_word(word)) {
    return true;
  }
  const Setting* setting = find(word.key);
  if (setting != nullptr) {
    LFS_TRY(add_setting(*setting, word));
  }
  return setting != nullptr;
}

Outcome<bool> MountOptions::add_layer_word(const MountWord& word) {
  if (word.key == "lowerdir") {
    auto layers = split_layers(word.value);
    if (!layers) {
      return prefixed(word.key, layers.error());
    }
    config_.lowers = *std::move(layers);
    return true;
  }
  if (word.key == "lowerdir+") {
    if (word.value.empty()) {
      return usage_error("-o lowerdir+: the path is empty");
    }
    config_.lowers.push_back(unescape_path(word.value));
    return true;
  }
  if (word.key == "upperdir") {
    if (word.value.empty()) {
      return usage_error("-o upperdir: the path is empty");
    }
    config_.upper = unescape_path(word.value);
    return true;
  }
  return false;
}

// fstab's "user" and its kin imply these unless a later word says otherwise (mount(8)).
void MountOptions::restrict_user_mount(std::string_view word) {
  generic_["suid"] = "nosuid";
  generic_["dev"] = "nodev";
  if (word == "user" || word == "users") {
    generic_["exec"] = "noexec";
  }
}

bool MountOptions::add_generic_word(const MountWord& word) {
  if (is_ignored(word.key)) {
    return true;
  }
  if (word.key == "user" || word.key == "users" || word.key == "owner" || word.key == "group") {
    restrict_user_mount(word.key);
    return true;
  }
  if (word.has_value) {
    return false;
  }
  if (word.key == "ro" || word.key == "rw") {
    config_.read_only = word.key == "ro";
    return true;
  }
  if (word.key == "userxattr") {
    config_.xattr = MountConfig::Xattr::User;
    return true;
  }
  for (const Generic& generic : kGeneric) {
    if (generic.word == word.key) {
      generic_[generic.question] = generic.hand_on ? word.key : "";
      return true;
    }
  }
  return false;
}

Outcome<void> MountOptions::add_setting(const Setting& setting, const MountWord& word) {
  if (setting.toggle) {
    bool on = true;
    if (word.has_value) {
      auto parsed = parse_switch(word.value);
      if (!parsed) {
        return prefixed(word.key, parsed.error());
      }
      on = *parsed;
    }
    setting.toggle(on);
    return {};
  }
  if (!word.has_value) {
    return usage_error("mount option '" + word.key + "' needs a value: " + word.key + "=" +
                       setting.option.value);
  }
  auto applied = setting.option.apply(word.value);
  return applied ? Outcome<void>() : prefixed(word.key, applied.error());
}

Outcome<void> MountOptions::take_positionals(const std::vector<std::string>& positionals) {
  std::vector<std::string> rest = positionals;
  if (rest.empty()) {
    return usage_error("no mount point is given");
  }
  config_.mountpoint = rest.back();
  rest.pop_back();
  if (lowers_by_option_) {
    rest.insert(rest.begin(), "");
  }
  if (rest.size() > 2) {
    return usage_error("unexpected argument '" + rest[2] +
                       "'; put ':' between lowers, not a space");
  }
  if (rest.empty()) {
    return {};
  }
  if (!lowers_by_option_) {
    if (!config_.lowers.empty()) {
      return usage_error("the lowers are given twice: as '" + rest[0] + "' and by -o lowerdir");
    }
    LFS_ASSIGN(config_.lowers, split_layers(rest[0]));
  }
  if (rest.size() == 1) {
    return {};
  }
  if (!config_.upper.empty()) {
    return usage_error("the upper is given twice: as '" + rest[1] + "' and by -o upperdir");
  }
  if (rest[1].empty()) {
    return usage_error("UPPER is empty; leave it out for a read-only mount");
  }
  config_.upper = unescape_path(rest[1]);
  return {};
}

void MountOptions::take_source_and_target(const std::string& source, const std::string& target) {
  if (!source.empty() && source != "none") {
    config_.fsname = source;
  }
  config_.mountpoint = target;
}

Outcome<MountConfig> MountOptions::finish() const {
  MountConfig out = config_;
  if (out.lowers.empty()) {
    return usage_error("no layer is given; name at least one LOWER, or -o lowerdir=LOWER");
  }
  if (out.mountpoint.empty()) {
    return usage_error("the mount point is empty");
  }
  if (out.upper.empty() && !out.work.empty()) {
    return usage_error(
        "a work directory is given but no UPPER; leave it out for a read-only mount");
  }
  for (const auto& [question, word] : generic_) {
    if (!word.empty()) {
      out.mount_flags.push_back(word);
    }
  }
  return out;
}

Problem cannot_remount(const std::string& mountpoint) {
  return failed(
      "'" + mountpoint +
      "': layerfs does not remount; for ro, rw and the like use 'mount -i -o remount,... " +
      mountpoint + "', else unmount and mount again");
}

}  // namespace layerfs
