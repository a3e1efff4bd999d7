// What a lower layer holds, as data: written to disk for the mount, merged by the
// reference union for the oracle, and printed in a report.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "tests/model/op.h"
#include "tests/model/record.h"

namespace layerfs::model {

struct LayerEntry {
  enum class Type : std::uint8_t { Directory, File, Symlink, Node, Whiteout };

  Type type = Type::File;
  // With the type bits for Node; permission bits only for the others.
  unsigned mode = 0644;
  unsigned uid = 0;
  unsigned gid = 0;
  std::int64_t seconds = 1;
  std::int64_t nanoseconds = 0;
  std::map<std::string, std::string> xattrs;

  // File: `pieces` of `piece` bytes of data, each followed by `hole` bytes of nothing.
  std::int64_t piece = 0;
  std::int64_t pieces = 1;
  std::int64_t hole = 0;
  std::int64_t fill = 0;

  std::string target;       // Symlink
  std::int64_t device = 0;  // Node
  // Directory: how it is marked as hiding what is below it; Whiteout: how it is written.
  // See kOpaqueForms and kWhiteoutForms.
  std::string form;
  // Another name of the object at this path of the same layer; the rest is then unused.
  std::string link_of;

  std::int64_t size() const { return pieces * (piece + hole); }
};

// By path without a leading slash, parents before children; "." is the layer's root.
using LayerSpec = std::map<std::string, LayerEntry>;

// Directory forms: "" (transparent), "trusted", "user", "fuseoverlayfs", "marker" (the
// file .wh..wh..opq), "shadow" (a .wh.NAME beside it). Whiteout forms: "device", "file".
Record to_record(const std::string& path, const LayerEntry& entry);
std::string entry_from_record(const Record& record, LayerEntry& entry);

std::string parent_of(const std::string& path);
std::string name_of(const std::string& path);
std::string join(const std::string& dir, const std::string& name);
bool is_below(const std::string& path, const std::string& dir);

struct TreeOptions {
  int layers = 3;
  // What kernel overlayfs reads too: no .wh. files, trusted attributes only.
  bool overlay_forms_only = false;
  bool odd_links = true;  // hard links of symlinks and special files
  std::size_t long_name = kMaxName;
};
// Topmost layer first.
std::vector<LayerSpec> generate_layers(std::uint64_t seed, const TreeOptions& options);

}  // namespace layerfs::model
