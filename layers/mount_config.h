// What one mount is made of, and its form on the pipe between `layerfs mount` and
// layerfsd. Paths are host paths, already unescaped, in the bytes the user gave.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace layerfs {

// One contiguous range of user or group ids: `count` of them from `stored` on disk, and
// from `shown` in the mount, where callers are compared with them.
struct IdRange {
  std::uint32_t stored;
  std::uint32_t shown;
  std::uint32_t count;
  friend bool operator==(const IdRange&, const IdRange&) = default;
};

struct MountConfig {
  enum class Io { Auto, Passthrough, Cached };
  enum class Whiteout { Auto, Overlay, Oci };
  enum class Xattr { Auto, Trusted, User };
  enum class OverrideStat { Auto, On, Off, Security };
  // Auto: yes for root, and inside a user namespace with a direct mount.
  enum class AllowOther { Auto, Yes, No };
  enum class LogLevel { Error, Warn, Info, Debug, Trace };

  static constexpr double kLongestTimeout = -1;
  static constexpr std::int64_t kNoSquash = -1;

  std::vector<std::string> lowers;  // top first
  std::string upper;                // "": the mount is read-only
  std::string work;                 // "": default_work_dir(upper)
  std::string init;                 // "": no init layer
  std::string mountpoint;

  bool foreground = false;
  bool read_only = false;
  Io io = Io::Auto;
  Whiteout whiteout = Whiteout::Auto;
  Xattr xattr = Xattr::Auto;
  bool redirect = true;
  bool metacopy = true;
  bool index = true;
  bool acl = true;
  bool xattrs = true;
  OverrideStat override_stat = OverrideStat::Auto;
  bool volatile_ = false;  // JSON key "volatile"
  // An upper is used although its volatile mount did not end cleanly.
  bool accept_unclean = false;
  // The upper and the init layer are removed after the mount, whatever its end: nothing waits
  // for a disk, and no mark says so.
  bool discarded = false;
  AllowOther allow_other = AllowOther::Auto;
  bool default_permissions = true;
  int threads = 0;                   // 0: as many as the machine suggests
  double timeout = kLongestTimeout;  // seconds; negative: as long as the kernel allows
  LogLevel log_level = LogLevel::Info;
  std::string log_file;  // "": stderr in the foreground, else syslog or nowhere
  std::int64_t squash_uid = kNoSquash;
  std::int64_t squash_gid = kNoSquash;
  std::vector<IdRange> uid_map;  // empty: ids are shown as they are stored
  std::vector<IdRange> gid_map;
  // Ids that no range can write are stored as the overflow id, in place of an error.
  bool unmapped_as_overflow = false;
  bool static_nlink = false;
  std::string fsname = "layerfs";
  std::vector<std::string> mount_flags;  // generic words of mount(8): nosuid, noexec, ...

  friend bool operator==(const MountConfig&, const MountConfig&) = default;
};

// The names in JSON and on the command line.
std::string_view to_string(MountConfig::Io value);
std::string_view to_string(MountConfig::Whiteout value);
std::string_view to_string(MountConfig::Xattr value);
std::string_view to_string(MountConfig::OverrideStat value);
std::string_view to_string(MountConfig::AllowOther value);
std::string_view to_string(MountConfig::LogLevel value);

// Each sets `out` and returns true, or leaves it and returns false.
bool from_string(std::string_view text, MountConfig::Io& out);
bool from_string(std::string_view text, MountConfig::Whiteout& out);
bool from_string(std::string_view text, MountConfig::Xattr& out);
bool from_string(std::string_view text, MountConfig::OverrideStat& out);
bool from_string(std::string_view text, MountConfig::AllowOther& out);
bool from_string(std::string_view text, MountConfig::LogLevel& out);

// The work directory of an upper that names none: ".NAME.layerfs-work" beside it, so
// that it is on the same filesystem unless the upper is itself a mount point.
std::string default_work_dir(std::string_view upper);

// One line of JSON, without the newline.
std::string to_json_text(const MountConfig& config);

// The reverse. Keys that are missing keep their defaults, except `lowers` and
// `mountpoint`. An unknown key, a wrong type or an unknown name of a value is refused:
// nullopt, and `why` says which in one line (the two programs are of different versions).
std::optional<MountConfig> parse_mount_config(std::string_view text, std::string& why);

// Paths are bytes and JSON is UTF-8: text that is UTF-8 is a string, anything else an
// object {"hex": "..."}. Used by everything that puts a path into JSON.
nlohmann::json bytes_to_json(std::string_view bytes);
// nullopt: neither form.
std::optional<std::string> bytes_from_json(const nlohmann::json& value);

}  // namespace layerfs
