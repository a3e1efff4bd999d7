// Writes layers, and their merge, to disk.
#pragma once

#include <string>

#include "tests/model/layer_spec.h"
#include "tests/model/reference_union.h"

namespace layerfs::model {

// `root` is created. Throws std::runtime_error with the path and the reason.
void write_layer(const std::string& root, const LayerSpec& layer);
// The names that are hidden but counted go to the new directory `ghosts`.
void write_merged(const std::string& root, const std::string& ghosts, const MergedTree& tree);
// Mode, owner, xattrs and times of one directory onto another that exists.
void copy_directory_attributes(const std::string& from, const std::string& to);
// Takes from an upper what only holds together with the index of its work directory:
// link counts relative to names in other layers.
void forget_link_counts(const std::string& upper);
void remove_recursively(const std::string& path);

}  // namespace layerfs::model
