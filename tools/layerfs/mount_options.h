// The options of a mount in all their spellings: long options, `-o` lists of mount(8) and
// fstab, and the names that kernel overlayfs and fuse-overlayfs use for the same things.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "layers/mount_config.h"
#include "tools/common/command_line.h"
#include "tools/common/problem.h"
#include "tools/common/syntax.h"

namespace layerfs {

enum class UnknownWords {
  Refuse,
  Ignore,  // mount(8)'s -s
};

// Collects one mount's options, in the order they are given: the last word wins.
class MountOptions {
 public:
  // `defaults`: what holds where no option says otherwise.
  explicit MountOptions(MountConfig defaults = {});
  MountOptions(const MountOptions&) = delete;  // the table points into this object
  MountOptions& operator=(const MountOptions&) = delete;
  MountOptions(MountOptions&&) = delete;
  MountOptions& operator=(MountOptions&&) = delete;
  ~MountOptions() = default;

  // The long options, which set this object when they are parsed.
  const std::vector<OptionGroup>& groups() const { return groups_; }

  // One `-o` list.
  Outcome<void> add_words(std::string_view list, UnknownWords unknown);

  // One word of such a list; false: it is not known.
  Outcome<bool> add_word(const MountWord& word);

  // `LOWER[:LOWER...] [UPPER] MOUNTPOINT`, or what of it the words have not named.
  Outcome<void> take_positionals(const std::vector<std::string>& positionals);
  // `SOURCE TARGET` of mount(8): the source is a name for /proc/mounts, nothing more.
  void take_source_and_target(const std::string& source, const std::string& target);

  // The whole, checked for what can be seen without looking at a disk.
  Outcome<MountConfig> finish() const;

  // "remount" was among the words; the others are then not looked at.
  bool remount() const { return remount_; }

 private:
  // One option: its long form, and how `-o` may switch it if it is a flag.
  struct Setting {
    Option option;
    std::function<void(bool)> toggle;
  };

  void define();
  void end_group(std::string title);
  void flag(Option option, std::function<void(bool)> toggle);
  void valued(Option option, std::function<Outcome<void>(std::string_view)> apply);
  void path(Option option, std::string& target);
  void on_off(Option option, bool& target);
  template <class E>
  void choice(const Option& option, E& target);
  void id_map(Option option, std::vector<IdRange>& target);
  void id(Option option, std::int64_t& target);

  Outcome<bool> add_layer_word(const MountWord& word);
  bool add_generic_word(const MountWord& word);
  void restrict_user_mount(std::string_view word);
  Outcome<void> add_setting(const Setting& setting, const MountWord& word);
  const Setting* find(std::string_view key) const;

  MountConfig config_;
  bool lowers_by_option_ = false;
  bool remount_ = false;
  // What a generic word decides ("suid", "atime", ...) -> the word that stands; "" for
  // words that ask for what is the default anyway.
  std::map<std::string_view, std::string> generic_;
  std::vector<Setting> settings_;
  std::vector<OptionGroup> groups_;
  std::size_t grouped_ = 0;
};

// What to say to a wish to remount.
Problem cannot_remount(const std::string& mountpoint);

}  // namespace layerfs
