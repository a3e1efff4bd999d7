// The merged view of one directory, built once from all its layers. Afterwards it
// answers lookups, negative lookups and listings without touching a layer.
#pragma once

#include <string>
#include <unordered_set>
#include <vector>

#include "layers/directory_listing.h"
#include "layers/layer_stack.h"

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
// Any error of any layer is an error of the whole: a listing that lacks what could not
// be read, or shows what a lost whiteout hides, is wrong data.
Result<MergedDirectory> merge_directory(const std::vector<MergeInput>& inputs);

}  // namespace layerfs
