#include "layers/mount_config.h"

#include <array>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <utility>

namespace layerfs {
namespace {

using nlohmann::json;

constexpr std::array<std::string_view, 3> kIoNames = {"auto", "passthrough", "cached"};
constexpr std::array<std::string_view, 3> kWhiteoutNames = {"auto", "overlay", "oci"};
constexpr std::array<std::string_view, 3> kXattrNames = {"auto", "trusted", "user"};
constexpr std::array<std::string_view, 4> kOverrideStatNames = {"auto", "on", "off", "security"};
constexpr std::array<std::string_view, 3> kAllowOtherNames = {"auto", "yes", "no"};
constexpr std::array<std::string_view, 5> kLogLevelNames = {"error", "warn", "info", "debug",
                                                            "trace"};

template <class E, std::size_t N>
bool find_name(const std::array<std::string_view, N>& names, std::string_view text, E& out) {
  for (std::size_t i = 0; i < N; ++i) {
    if (names[i] == text) {
      out = static_cast<E>(i);
      return true;
    }
  }
  return false;
}

// Internal to the parser; never leaves parse_mount_config().
struct Refusal : std::runtime_error {
  using std::runtime_error::runtime_error;
};

bool is_utf8(std::string_view bytes) {
  // The library's own check, so that what is accepted here can be dumped.
  try {
    static_cast<void>(json(std::string(bytes)).dump());
    return true;
  } catch (const json::type_error&) {
    return false;
  }
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') {
    return c - '0';
  }
  if (c >= 'a' && c <= 'f') {
    return c - 'a' + 10;
  }
  return -1;
}

json map_to_json(const std::vector<IdRange>& map) {
  json out = json::array();
  for (const IdRange& range : map) {
    out.push_back({range.stored, range.shown, range.count});
  }
  return out;
}

void read(const json& value, bool& out) {
  if (!value.is_boolean()) {
    throw Refusal("must be true or false");
  }
  out = value.get<bool>();
}

void read(const json& value, int& out) {
  if (!value.is_number_integer()) {
    throw Refusal("must be an integer");
  }
  const auto number = value.get<std::int64_t>();
  if (!std::in_range<int>(number)) {
    throw Refusal("is out of range");
  }
  out = static_cast<int>(number);
}

void read(const json& value, std::int64_t& out) {
  if (!value.is_number_integer()) {
    throw Refusal("must be an integer");
  }
  out = value.get<std::int64_t>();
}

void read(const json& value, double& out) {
  if (!value.is_number()) {
    throw Refusal("must be a number");
  }
  out = value.get<double>();
}

void read(const json& value, std::string& out) {
  auto bytes = bytes_from_json(value);
  if (!bytes) {
    throw Refusal("must be a string");
  }
  if (bytes->find('\0') != std::string::npos) {
    throw Refusal("has a NUL byte");
  }
  out = *std::move(bytes);
}

void read(const json& value, std::vector<std::string>& out) {
  if (!value.is_array()) {
    throw Refusal("must be a list of strings");
  }
  out.clear();
  for (const json& item : value) {
    read(item, out.emplace_back());
  }
}

void read(const json& value, std::vector<IdRange>& out) {
  constexpr std::uint64_t kMaxId = 0xffffffff;
  if (!value.is_array()) {
    throw Refusal("must be a list of [stored, shown, count]");
  }
  out.clear();
  for (const json& item : value) {
    if (!item.is_array() || item.size() != 3) {
      throw Refusal("must be a list of [stored, shown, count]");
    }
    std::array<std::uint32_t, 3> numbers{};
    for (std::size_t i = 0; i < 3; ++i) {
      if (!item[i].is_number_unsigned() || item[i].get<std::uint64_t>() > kMaxId) {
        throw Refusal("has an id that is not in 0 to 4294967295");
      }
      numbers[i] = item[i].get<std::uint32_t>();
    }
    out.push_back({numbers[0], numbers[1], numbers[2]});
  }
}

template <class E>
requires std::is_enum_v<E>
void read(const json& value, E& out) {
  if (!value.is_string() || !from_string(value.get<std::string>(), out)) {
    throw Refusal("has a value this version does not know: " + value.dump());
  }
}

// The one list of keys, used in both directions.
template <class Config, class Visit>
void for_each_field(Config& c, Visit&& visit) {
  visit("lowers", c.lowers);
  visit("upper", c.upper);
  visit("work", c.work);
  visit("init", c.init);
  visit("mountpoint", c.mountpoint);
  visit("foreground", c.foreground);
  visit("read_only", c.read_only);
  visit("io", c.io);
  visit("whiteout", c.whiteout);
  visit("xattr", c.xattr);
  visit("redirect", c.redirect);
  visit("metacopy", c.metacopy);
  visit("index", c.index);
  visit("acl", c.acl);
  visit("xattrs", c.xattrs);
  visit("override_stat", c.override_stat);
  visit("volatile", c.volatile_);
  visit("accept_unclean", c.accept_unclean);
  visit("discarded", c.discarded);
  visit("allow_other", c.allow_other);
  visit("default_permissions", c.default_permissions);
  visit("threads", c.threads);
  visit("timeout", c.timeout);
  visit("log_level", c.log_level);
  visit("log_file", c.log_file);
  visit("squash_uid", c.squash_uid);
  visit("squash_gid", c.squash_gid);
  visit("uid_map", c.uid_map);
  visit("gid_map", c.gid_map);
  visit("unmapped_as_overflow", c.unmapped_as_overflow);
  visit("static_nlink", c.static_nlink);
  visit("fsname", c.fsname);
  visit("mount_flags", c.mount_flags);
}

json write(const std::string& value) { return bytes_to_json(value); }
json write(const std::vector<std::string>& value) {
  json out = json::array();
  for (const std::string& item : value) {
    out.push_back(bytes_to_json(item));
  }
  return out;
}
json write(const std::vector<IdRange>& value) { return map_to_json(value); }
template <class E>
requires std::is_enum_v<E> json write(E value) { return std::string(to_string(value)); }
template <class T>
requires std::is_arithmetic_v<T> json write(T value) { return value; }

}  // namespace

std::string_view to_string(MountConfig::Io value) {
  return kIoNames.at(static_cast<std::size_t>(value));
}
std::string_view to_string(MountConfig::Whiteout value) {
  return kWhiteoutNames.at(static_cast<std::size_t>(value));
}
std::string_view to_string(MountConfig::Xattr value) {
  return kXattrNames.at(static_cast<std::size_t>(value));
}
std::string_view to_string(MountConfig::OverrideStat value) {
  return kOverrideStatNames.at(static_cast<std::size_t>(value));
}
std::string_view to_string(MountConfig::AllowOther value) {
  return kAllowOtherNames.at(static_cast<std::size_t>(value));
}
std::string_view to_string(MountConfig::LogLevel value) {
  return kLogLevelNames.at(static_cast<std::size_t>(value));
}

bool from_string(std::string_view text, MountConfig::Io& out) {
  return find_name(kIoNames, text, out);
}
bool from_string(std::string_view text, MountConfig::Whiteout& out) {
  return find_name(kWhiteoutNames, text, out);
}
bool from_string(std::string_view text, MountConfig::Xattr& out) {
  return find_name(kXattrNames, text, out);
}
bool from_string(std::string_view text, MountConfig::OverrideStat& out) {
  return find_name(kOverrideStatNames, text, out);
}
bool from_string(std::string_view text, MountConfig::AllowOther& out) {
  return find_name(kAllowOtherNames, text, out);
}
bool from_string(std::string_view text, MountConfig::LogLevel& out) {
  return find_name(kLogLevelNames, text, out);
}

std::string default_work_dir(std::string_view upper) {
  while (upper.size() > 1 && upper.back() == '/') {
    upper.remove_suffix(1);
  }
  const auto slash = upper.rfind('/');
  const std::string_view parent =
      slash == std::string_view::npos ? std::string_view{} : upper.substr(0, slash + 1);
  const std::string_view name = slash == std::string_view::npos ? upper : upper.substr(slash + 1);
  std::string out(parent);
  out.append(".").append(name).append(".layerfs-work");
  return out;
}

json bytes_to_json(std::string_view bytes) {
  if (is_utf8(bytes)) {
    return std::string(bytes);
  }
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  hex.reserve(bytes.size() * 2);
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    hex.push_back(kDigits[byte >> 4]);
    hex.push_back(kDigits[byte & 15]);
  }
  return json{{"hex", hex}};
}

std::optional<std::string> bytes_from_json(const json& value) {
  if (value.is_string()) {
    return value.get<std::string>();
  }
  if (!value.is_object() || value.size() != 1 || !value.contains("hex") ||
      !value["hex"].is_string()) {
    return std::nullopt;
  }
  const auto& hex = value["hex"].get_ref<const std::string&>();
  if (hex.size() % 2 != 0) {
    return std::nullopt;
  }
  std::string out;
  for (std::size_t i = 0; i < hex.size(); i += 2) {
    const int high = hex_digit(hex[i]);
    const int low = hex_digit(hex[i + 1]);
    if (high < 0 || low < 0) {
      return std::nullopt;
    }
    out.push_back(static_cast<char>(high * 16 + low));
  }
  return out;
}

std::string to_json_text(const MountConfig& config) {
  json out = json::object();
  for_each_field(config, [&](const char* key, const auto& value) { out[key] = write(value); });
  return out.dump();
}

std::optional<MountConfig> parse_mount_config(std::string_view text, std::string& why) {
  json document = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!document.is_object()) {
    why = "the mount configuration is not a JSON object";
    return std::nullopt;
  }
  MountConfig config;
  const char* current = "";
  try {
    for_each_field(config, [&](const char* key, auto& value) {
      const auto found = document.find(key);
      if (found == document.end()) {
        return;
      }
      current = key;
      read(*found, value);
      document.erase(found);
    });
  } catch (const Refusal& refusal) {
    why = std::string("mount configuration: \"") + current + "\" " + refusal.what();
    return std::nullopt;
  }
  if (!document.empty()) {
    why = "mount configuration: unknown key \"" + document.begin().key() +
          "\"; layerfs and layerfsd are of different versions";
    return std::nullopt;
  }
  if (config.lowers.empty()) {
    why = "mount configuration: \"lowers\" names no layer";
    return std::nullopt;
  }
  if (config.mountpoint.empty()) {
    why = "mount configuration: \"mountpoint\" is missing";
    return std::nullopt;
  }
  return config;
}

}  // namespace layerfs
