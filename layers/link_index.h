// The index of hard links in a work directory: the upper inodes of lower files that have
// several names, as overlayfs keeps them with index=on. Their number of names is in
// overlay.nlink.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace layerfs {

// The directory in the work directory.
inline constexpr const char* kLinkIndexName = "layerfs.index";

// The lower inode: f_fsid of its filesystem and its number there.
struct IndexKey {
  std::uint64_t fsid;
  std::uint64_t ino;
  friend auto operator<=>(const IndexKey&, const IndexKey&) = default;
};

// Two numbers of 16 hexadecimal digits with a '-' between.
std::string format_index_name(IndexKey key);
std::optional<IndexKey> parse_index_name(std::string_view name);

// The names of the object minus the stored inode's own links: "U+n" or "U-n". Of the
// names, the index itself is one link, so n + 1 names are still only in the lowers.
std::string format_link_delta(int delta);
// 0 for a count relative to the lower inode ("L"): without that inode at hand the stored
// count is the best there is.
int parse_link_delta(std::string_view text);

}  // namespace layerfs
