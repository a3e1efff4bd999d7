#include "layers/override_stat.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <charconv>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <optional>
#include <tuple>

#include "layers/identity.h"

namespace layerfs {
namespace {

// Linux' dev_t: 12 bits of major, 20 of minor (include/linux/kdev_t.h).
constexpr std::uint32_t kMaxMajor = 0xfff;
constexpr std::uint32_t kMaxMinor = 0xfffff;
constexpr std::uint32_t kNoId = std::numeric_limits<std::uint32_t>::max();

std::optional<std::uint32_t> parse_number(std::string_view text, int base) {
  std::uint32_t number = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number, base);
  if (error != std::errc() || stop != end) {
    return std::nullopt;
  }
  return number;
}

// fuse-overlayfs prints ids with "%d", so those above 2^31 are negative on disk.
std::optional<std::uint32_t> parse_id(std::string_view text) {
  if (text.starts_with('-')) {
    std::int32_t number = 0;
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, number);
    if (error != std::errc() || stop != end || number >= -1) {
      return std::nullopt;
    }
    return static_cast<std::uint32_t>(number);
  }
  const auto id = parse_number(text, 10);
  return id == kNoId ? std::nullopt : id;
}

// Removes the text up to `separator` from `rest` and returns it; all of it if there is
// no separator.
std::string_view take_until(std::string_view& rest, char separator) {
  const std::string_view taken = rest.substr(0, rest.find(separator));
  rest.remove_prefix(taken.size() < rest.size() ? taken.size() + 1 : taken.size());
  return taken;
}

struct Type {
  mode_t mode;
  dev_t rdev;
};

// "block-MAJOR-MINOR" or "char-MAJOR-MINOR"; what follows a third '-' is ignored.
std::optional<Type> parse_device(std::string_view text) {
  const std::string_view kind = take_until(text, '-');
  const auto major_number = parse_number(take_until(text, '-'), 10);
  const auto minor_number = parse_number(take_until(text, '-'), 10);
  if (!major_number || !minor_number || *major_number > kMaxMajor || *minor_number > kMaxMinor) {
    return std::nullopt;
  }
  if (kind != "block" && kind != "char") {
    return std::nullopt;
  }
  return Type{kind == "block" ? mode_t{S_IFBLK} : mode_t{S_IFCHR},
              makedev(*major_number, *minor_number)};
}

constexpr struct {
  std::string_view word;
  mode_t mode;
} kTypes[] = {{"file", S_IFREG},
              {"dir", S_IFDIR},
              {"symlink", S_IFLNK},
              {"pipe", S_IFIFO},
              {"socket", S_IFSOCK}};

std::optional<Type> parse_type(std::string_view text) {
  for (const auto& type : kTypes) {
    if (text.starts_with(type.word)) {
      return Type{type.mode, 0};
    }
  }
  return parse_device(text);
}

std::string format_type(const OverrideStat& stat) {
  const mode_t type = stat.mode & S_IFMT;
  for (const auto& known : kTypes) {
    if (type == known.mode) {
      return ":" + std::string(known.word);
    }
  }
  if (type != S_IFBLK && type != S_IFCHR) {
    return {};
  }
  return (type == S_IFBLK ? ":block-" : ":char-") + std::to_string(major(stat.rdev)) + "-" +
         std::to_string(minor(stat.rdev));
}

}  // namespace

const char* override_stat_xattr(OverrideForm form) {
  switch (form) {
    case OverrideForm::FuseOverlayfs:
      return "user.fuseoverlayfs.override_stat";
    case OverrideForm::Security:
      return "security.fuseoverlayfs.override_stat";
    case OverrideForm::Containers:
    case OverrideForm::None:
      break;
  }
  return "user.containers.override_stat";
}

bool OverrideStat::has_type() const { return (mode & S_IFMT) != 0; }

Result<OverrideStat> parse_override_stat(std::string_view value) {
  std::string_view rest = value;
  const auto uid = parse_id(take_until(rest, ':'));
  const auto gid = parse_id(take_until(rest, ':'));
  const std::string_view mode_text = take_until(rest, ':');
  const auto mode = parse_number(mode_text, 8);
  if (!uid || !gid || !mode || *mode > (S_IFMT | kPermissions)) {
    return Errno(EINVAL);
  }
  // Type bits in the number are dropped: containers/storage ignores them, and
  // fuse-overlayfs writes none but the file's own.
  OverrideStat stat{*uid, *gid, *mode & kPermissions, 0};
  const bool has_type_field = mode_text.data() + mode_text.size() != value.data() + value.size();
  if (has_type_field) {
    const auto type = parse_type(take_until(rest, ':'));
    if (!type) {
      return Errno(EINVAL);
    }
    stat.mode |= type->mode;
    stat.rdev = type->rdev;
  }
  return stat;
}

mode_t usable_mode(mode_t mode) { return (mode & 0777) | (S_ISDIR(mode) ? 0700U : 0600U); }

std::string format_override_stat(const OverrideStat& stat) {
  char numbers[48];
  std::ignore = std::snprintf(numbers, sizeof numbers, "%u:%u:%04o", stat.uid, stat.gid,
                              stat.mode & kPermissions);
  return numbers + format_type(stat);
}

}  // namespace layerfs
