// The merged view of one directory, built once from all its layers. Afterwards it
// answers lookups, negative lookups and listings without touching a layer.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "layers/directory_listing.h"
#include "layers/layer_stack.h"
#include "layers/sys/syscalls.h"

namespace layerfs {

struct MergedDirectory {
  DirectoryListing visible;
  // Names with a whiteout in the upper, and in the init layer. A creation must replace
  // it, and must be opaque if it is a directory.
  std::unordered_set<std::string> upper_whiteouts;
  std::unordered_set<std::string> init_whiteouts;
};

// Flags of a DirectoryListing entry.
inline constexpr std::uint8_t kExistsBelow = 1;  // a lower layer shows the name too

// One layer's directory to read, topmost first.
struct MergeInput {
  LayerIndex layer;
  LayerRole role;
  bool xattr_whiteouts;
  int dir;  // O_PATH or readable
};

// What an entry of one layer's directory says.
struct LayerEntry {
  std::string_view name;  // of a whiteout: the one that it hides
  unsigned char type;     // DT_*
  bool is_whiteout;
};
class LayerReader {
 public:
  static Result<LayerReader> open(const MergeInput& input);
  // nullopt at the end. The name is valid until the next call.
  Result<std::optional<LayerEntry>> next();

 private:
  LayerReader(UniqueFd fd, bool xattr_whiteouts)
      : fd_(std::move(fd)), reader_(fd_.get()), xattr_whiteouts_(xattr_whiteouts) {}
  Status classify(LayerEntry& entry) const;

  UniqueFd fd_;
  sys::DirReader reader_;
  bool xattr_whiteouts_;
};

// Any error of any layer is an error of the whole: a listing that lacks what could not
// be read, or shows what a lost whiteout hides, is wrong data.
Result<MergedDirectory> merge_directory(const std::vector<MergeInput>& inputs);

}  // namespace layerfs
