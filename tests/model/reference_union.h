// The one definition of what a stack of layers shows: maps only, no filesystem.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "tests/model/layer_spec.h"

namespace layerfs::model {

struct MergedTree {
  // Visible objects by path, "." included; never a Whiteout, never a link_of.
  std::map<std::string, LayerEntry> entries;
  // Names that show one and the same object, each group with its first name first.
  std::vector<std::vector<std::string>> links;
  // Names of the object of a group that layers above hide; st_nlink counts them still.
  std::vector<int> hidden_names;
};

// Topmost layer first. `init`: the topmost is an init layer, whose directories only carry
// their entries where a layer below has the directory too.
MergedTree merge_layers(const std::vector<LayerSpec>& layers, bool init);

}  // namespace layerfs::model
