#include "tools/oci/tar_header.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "layers/identity.h"

namespace layerfs::oci {
namespace {

constexpr std::size_t kNameBytes = 100;
constexpr std::size_t kPrefixBytes = 155;
constexpr std::uint64_t kMax7Digits = 07777777;
constexpr std::uint64_t kMax11Digits = 077777777777;

// struct posix_header, by offset and size.
struct Field {
  std::size_t offset;
  std::size_t size;
};
constexpr Field kName{0, kNameBytes};
constexpr Field kMode{100, 8};
constexpr Field kUid{108, 8};
constexpr Field kGid{116, 8};
constexpr Field kSize{124, 12};
constexpr Field kMtime{136, 12};
constexpr Field kChecksum{148, 8};
constexpr Field kType{156, 1};
constexpr Field kLinkName{157, kNameBytes};
constexpr Field kMagic{257, 8};  // with the version
constexpr Field kDevMajor{329, 8};
constexpr Field kDevMinor{337, 8};
constexpr Field kPrefix{345, kPrefixBytes};

using HeaderBlock = std::array<char, kTarBlockBytes>;

void put_text(HeaderBlock& block, Field field, std::string_view text) {
  std::memcpy(block.data() + field.offset, text.data(), std::min(text.size(), field.size));
}

// All digits that the field has, and a NUL. Zero stands for what PAX says instead.
void put_number(HeaderBlock& block, Field field, std::uint64_t value, std::uint64_t largest) {
  if (value > largest) {
    value = 0;
  }
  for (std::size_t i = field.size - 1; i-- > 0;) {
    block[field.offset + i] = static_cast<char>('0' + (value & 7U));
    value >>= 3U;
  }
}

void put_checksum(HeaderBlock& block) {
  std::memset(block.data() + kChecksum.offset, ' ', kChecksum.size);
  unsigned sum = 0;
  for (const char c : block) {
    sum += static_cast<unsigned char>(c);
  }
  // Six digits, a NUL and a space, as every tar since the first has it.
  for (std::size_t i = 6; i-- > 0;) {
    block[kChecksum.offset + i] = static_cast<char>('0' + (sum & 7U));
    sum >>= 3U;
  }
  block[kChecksum.offset + 6] = '\0';
}

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

struct SplitName {
  std::string_view prefix;
  std::string_view name;
};

// nullopt: ustar cannot hold it.
std::optional<SplitName> split_name(std::string_view path) {
  if (!is_ascii(path)) {
    return std::nullopt;
  }
  if (path.size() <= kNameBytes) {
    return SplitName{"", path};
  }
  // The first cut whose rest fits leaves the shortest prefix.
  for (std::size_t cut = path.find('/', path.size() - kNameBytes - 1);
       cut != std::string_view::npos && cut + 1 < path.size() && cut <= kPrefixBytes;
       cut = path.find('/', cut + 1)) {
    if (cut > 0) {
      return SplitName{path.substr(0, cut), path.substr(cut + 1)};
    }
  }
  return std::nullopt;
}

// For a field that PAX overrides: what an old tool would show.
std::string as_ascii(std::string_view text) {
  std::string out(text.substr(0, kNameBytes));
  for (char& c : out) {
    if (static_cast<unsigned char>(c) >= 0x80) {
      c = '_';
    }
  }
  return out;
}

// "LENGTH KEY=VALUE\n", where the length counts itself.
void add_record(std::string& records, std::string_view key, std::string_view value) {
  const std::size_t rest = key.size() + value.size() + 3;
  std::size_t length = rest + 1;
  while (length != rest + std::to_string(length).size()) {
    length = rest + std::to_string(length).size();
  }
  records += std::to_string(length);
  records += ' ';
  records += key;
  records += '=';
  records += value;
  records += '\n';
}

// Seconds since 1970 with as many decimals as there are.
std::string pax_time(struct timespec time) {
  const bool negative = time.tv_sec < 0;
  std::int64_t seconds = time.tv_sec;
  std::int64_t nanoseconds = time.tv_nsec;
  if (negative && nanoseconds > 0) {
    seconds += 1;
    nanoseconds = 1000000000 - nanoseconds;
  }
  std::string out = negative ? "-" : "";
  out += std::to_string(negative ? -seconds : seconds);
  if (nanoseconds > 0) {
    std::string digits = std::to_string(nanoseconds);
    digits.insert(0, 9 - digits.size(), '0');
    digits.erase(digits.find_last_not_of('0') + 1);
    out += "." + digits;
  }
  return out;
}

std::string stored_path(const TarEntry& entry) {
  return entry.type == TarType::Directory ? entry.path + "/" : entry.path;
}

// In the bytewise order of the keys.
std::string pax_records(const TarEntry& entry, const std::string& path) {
  std::string records;
  for (const auto& [name, value] : entry.xattrs) {
    add_record(records, "SCHILY.xattr." + name, value);
  }
  if (entry.gid > kMax7Digits) {
    add_record(records, "gid", std::to_string(entry.gid));
  }
  if (!is_ascii(entry.link_target) || entry.link_target.size() > kNameBytes) {
    add_record(records, "linkpath", entry.link_target);
  }
  const bool plain_time = entry.mtime.tv_nsec == 0 && entry.mtime.tv_sec >= 0 &&
                          static_cast<std::uint64_t>(entry.mtime.tv_sec) <= kMax11Digits;
  if (!plain_time) {
    add_record(records, "mtime", pax_time(entry.mtime));
  }
  if (!split_name(path)) {
    add_record(records, "path", path);
  }
  if (entry.size > kMax11Digits || entry.size_in_pax) {
    add_record(records, "size", std::to_string(entry.size));
  }
  if (entry.uid > kMax7Digits) {
    add_record(records, "uid", std::to_string(entry.uid));
  }
  return records;
}

std::string pax_header_name(const std::string& path) {
  const std::size_t cut = path.rfind('/');
  const std::string dir = cut == std::string::npos ? "" : path.substr(0, cut + 1);
  return as_ascii(dir + "PaxHeaders.0/" + path.substr(cut == std::string::npos ? 0 : cut + 1));
}

void start_block(HeaderBlock& block, char type) {
  block.fill('\0');
  block[kType.offset] = type;
  put_text(block, kMagic,
           std::string_view("ustar\0"
                            "00",
                            8));
}

void append(std::string& out, HeaderBlock& block) {
  put_checksum(block);
  out.append(block.data(), block.size());
}

}  // namespace

std::size_t tar_padding(std::uint64_t size) {
  return static_cast<std::size_t>((kTarBlockBytes - size % kTarBlockBytes) % kTarBlockBytes);
}

bool is_portable_xattr(std::string_view name, std::string_view value) {
  return !value.empty() && name.find('=') == std::string_view::npos;
}

std::string encode_tar_header(const TarEntry& entry) {
  std::string out;
  HeaderBlock block;
  const std::string path = stored_path(entry);
  const std::string records = pax_records(entry, path);
  if (!records.empty()) {
    start_block(block, 'x');
    put_text(block, kName, pax_header_name(entry.path));
    for (const Field field : {kMode, kUid, kGid, kMtime, kDevMajor, kDevMinor}) {
      put_number(block, field, 0, 0);
    }
    put_number(block, kSize, records.size(), kMax11Digits);
    append(out, block);
    out += records;
    out.append(tar_padding(records.size()), '\0');
  }
  start_block(block, static_cast<char>(entry.type));
  if (const auto split = split_name(path)) {
    put_text(block, kName, split->name);
    put_text(block, kPrefix, split->prefix);
  } else {
    put_text(block, kName, as_ascii(path));
  }
  put_number(block, kMode, entry.mode & kPermissions, kMax7Digits);
  put_number(block, kUid, entry.uid, kMax7Digits);
  put_number(block, kGid, entry.gid, kMax7Digits);
  put_number(block, kSize, entry.size, kMax11Digits);
  put_number(block, kMtime,
             entry.mtime.tv_sec < 0 ? 0 : static_cast<std::uint64_t>(entry.mtime.tv_sec),
             kMax11Digits);
  put_text(block, kLinkName, as_ascii(entry.link_target));
  put_number(block, kDevMajor, entry.device_major, kMax7Digits);
  put_number(block, kDevMinor, entry.device_minor, kMax7Digits);
  append(out, block);
  return out;
}

}  // namespace layerfs::oci
