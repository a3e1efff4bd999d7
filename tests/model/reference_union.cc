#include "tests/model/reference_union.h"

#include <algorithm>
#include <set>
#include <tuple>
#include <utility>

namespace layerfs::model {
namespace {

using Type = LayerEntry::Type;
using ObjectId = std::pair<std::size_t, std::string>;  // layer, the object's own path in it

class Merge {
 public:
  Merge(const std::vector<LayerSpec>& layers, bool init) : layers_(layers), init_(init) {}

  MergedTree run() {
    std::vector<std::size_t> all;
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      all.push_back(i);
    }
    directory(".", all);
    group_links();
    return std::move(tree_);
  }

 private:
  // `sources`: the layers that contribute to this directory, topmost first. The topmost
  // gives its attributes.
  void directory(const std::string& path, const std::vector<std::size_t>& sources) {
    const bool carries_only = init_ && sources.front() == 0 && sources.size() > 1;
    tree_.entries[path] = layers_[sources[carries_only ? 1 : 0]].at(path);
    tree_.entries[path].form.clear();
    if (carries_only) {
      LayerEntry& shown = tree_.entries[path];
      const LayerEntry& carrier = layers_[0].at(path);
      const auto time = [](const LayerEntry& of) { return std::pair(of.seconds, of.nanoseconds); };
      std::tie(shown.seconds, shown.nanoseconds) = std::max(time(shown), time(carrier));
    }
    std::set<std::string> names;
    for (const std::size_t layer : sources) {
      for (const auto& [child, entry] : layers_[layer]) {
        if (child != "." && parent_of(child) == path) {
          names.insert(name_of(child));
        }
      }
    }
    for (const std::string& name : names) {
      child(join(path, name), sources);
    }
  }

  void child(const std::string& path, const std::vector<std::size_t>& sources) {
    std::vector<std::size_t> merged;
    for (const std::size_t layer : sources) {
      const auto found = layers_[layer].find(path);
      if (found == layers_[layer].end()) {
        continue;
      }
      const LayerEntry& entry = found->second;
      if (entry.type == Type::Directory) {
        merged.push_back(layer);
        if (entry.form.empty()) {
          continue;
        }
      } else if (entry.type != Type::Whiteout && merged.empty()) {
        object(path, layer, entry);
      }
      break;  // opaque, a whiteout or not a directory: nothing below shows
    }
    if (!merged.empty()) {
      directory(path, merged);
    }
  }

  void object(const std::string& path, std::size_t layer, const LayerEntry& entry) {
    const std::string& own = entry.link_of.empty() ? path : entry.link_of;
    tree_.entries[path] = layers_[layer].at(own);
    names_[{layer, own}].push_back(path);
  }

  void group_links() {
    for (const auto& [id, names] : names_) {
      int total = 0;
      for (const auto& [path, entry] : layers_[id.first]) {
        total += path == id.second || entry.link_of == id.second ? 1 : 0;
      }
      if (total > 1) {
        tree_.links.push_back(names);
        tree_.hidden_names.push_back(total - static_cast<int>(names.size()));
      }
    }
  }

  const std::vector<LayerSpec>& layers_;
  bool init_;
  MergedTree tree_;
  std::map<ObjectId, std::vector<std::string>> names_;
};

}  // namespace

MergedTree merge_layers(const std::vector<LayerSpec>& layers, bool init) {
  return Merge(layers, init).run();
}

}  // namespace layerfs::model
