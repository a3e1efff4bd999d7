// A path below a layer root, as a chain of components that share their beginnings:
// a million directories must not each carry their whole path.
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace layerfs {

// Immutable; copying costs one reference count. The default value is the root, "".
class LayerPath {
 public:
  LayerPath() = default;

  LayerPath child(std::string_view name) const {
    LayerPath path;
    path.last_ = std::make_shared<const Component>(Component{last_, std::string(name)});
    return path;
  }
  bool is_root() const { return last_ == nullptr; }
  // Relative to the layer root: "a/b", or "" for the root.
  std::string text() const {
    std::size_t size = 0;
    for (const Component* c = last_.get(); c != nullptr; c = c->parent.get()) {
      size += c->name.size() + 1;
    }
    if (size == 0) {
      return {};
    }
    std::string out(size - 1, '/');
    std::size_t end = out.size();
    for (const Component* c = last_.get(); c != nullptr; c = c->parent.get()) {
      end -= c->name.size();
      out.replace(end, c->name.size(), c->name);
      if (end > 0) {
        --end;
      }
    }
    return out;
  }

 private:
  struct Component {
    std::shared_ptr<const Component> parent;
    std::string name;
  };
  std::shared_ptr<const Component> last_;
};

}  // namespace layerfs
