// A complete, comparable description of a directory tree: the oracle of the
// end-to-end, interoperability and crash tests.
//
// Invariants:
// 1. Nothing is guessed: what cannot be read is listed in Manifest::errors and
//    never silently missing from Manifest::entries.
// 2. The scan does not cross into another mount; a mount point is listed as
//    such, with none of the attributes of what is mounted there.
// 3. It uses nothing of the code under test, and changes nothing in the tree,
//    access times included where the kernel lets it (see `times_of_access`).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <sys/stat.h>
#include <sys/types.h>

namespace layerfs::testlib {

struct ManifestOptions {
  // A filesystem is free in how it counts the links of a directory.
  bool directory_nlink = true;
  bool mtimes = true;
  // Modification times of these paths, and of what is below them, are left out.
  std::vector<std::string> no_mtime_below;
  // These paths, and what is below them, are left out altogether.
  std::vector<std::string> exclude_below;
  // Extended attributes whose names begin so are left out.
  std::vector<std::string> no_xattr_prefixes;
  bool content = true;
  // With these, the manifest also tells whether an unchanged tree was *touched*.
  // As root, the tree is then read through a private noatime clone of its
  // mount; otherwise reading a symlink may set its access time.
  bool times_of_access = false;
  bool times_of_change = false;
  bool inode_numbers = false;
  // Adds what readdir says where it contradicts lstat (d_ino, d_type).
  bool check_directory_entries = false;
};

struct ManifestEntry {
  std::string path;  // below the root, without a leading slash; "." is the root
  struct stat status = {};
  bool is_mount_point = false;
  std::string link_target;
  std::map<std::string, std::string> xattrs;
  std::string content_hash;     // XXH3, 128 bits, hexadecimal; regular files only
  std::string hard_link_group;  // the first path of this inode; "" if the only one
  std::string directory_entry_contradiction;
};

struct Manifest {
  std::vector<ManifestEntry> entries;  // sorted by path, bytewise
  std::vector<std::string> errors;     // each names the path and the reason
};

// Describes the tree below `root`, which itself is the entry ".".
Manifest scan_tree(const std::string& root, const ManifestOptions& options);

// One line, without the line end: the escaped path, a tab, and the attributes.
// Bytes that are not printable ASCII, spaces and backslashes are written \xHH.
std::string format_entry(const ManifestEntry& entry, const ManifestOptions& options);

std::string escape_bytes(std::string_view bytes);

// The differences between two trees as lines for a person, at most `limit`
// of them and then a count; empty if the trees are equal.
std::vector<std::string> describe_differences(const Manifest& expected, const Manifest& actual,
                                              const ManifestOptions& options, std::size_t limit);

}  // namespace layerfs::testlib
