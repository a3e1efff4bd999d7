#pragma once

#include <map>
#include <string>

namespace layerfs::model {

// Everything about the objects below `root` but their access times, by path: a layer
// that nobody writes keeps it.
std::map<std::string, std::string> describe_layer(const std::string& root);

// "" or the first path that differs, with both descriptions.
std::string first_difference(const std::map<std::string, std::string>& before,
                             const std::map<std::string, std::string>& after);

}  // namespace layerfs::model
