// The headers of one tar entry: ustar, preceded by a PAX extended header for what ustar
// cannot hold (POSIX.1-2017, pax, "Extended Interchange Format").
//
// Written here and not by libarchive because the bytes are what a layer is named by: they
// must depend on the entry alone, and libarchive's depend on its version, the locale (names
// that are no text) and whether it adds attributes of its own (LIBARCHIVE.xattr).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <ctime>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace layerfs::oci {

inline constexpr std::size_t kTarBlockBytes = 512;

enum class TarType : char {
  Regular = '0',
  HardLink = '1',
  Symlink = '2',
  Character = '3',
  Block = '4',
  Directory = '5',
  Fifo = '6',
};

struct TarEntry {
  TarType type = TarType::Regular;
  std::string path;          // relative, without a '/' at the end
  std::string link_target;   // of links
  std::uint64_t size = 0;    // bytes of data that follow; regular files
  bool size_in_pax = false;  // also where ustar holds it
  mode_t mode = 0;           // 07777
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  struct timespec mtime = {};
  unsigned device_major = 0;
  unsigned device_minor = 0;
  // By name, in bytewise order: SCHILY.xattr.NAME. PAX cannot carry an empty value (it
  // would delete the attribute) nor a name with '='.
  std::vector<std::pair<std::string, std::string>> xattrs;
};

// One or more whole blocks; the data follows, padded to whole blocks.
std::string encode_tar_header(const TarEntry& entry);
// PAX can carry it.
bool is_portable_xattr(std::string_view name, std::string_view value);
// Zero bytes after `size` bytes of data.
std::size_t tar_padding(std::uint64_t size);
// Two blocks of zeros end an archive.
inline constexpr std::size_t kTarTrailerBytes = 2 * kTarBlockBytes;

}  // namespace layerfs::oci
