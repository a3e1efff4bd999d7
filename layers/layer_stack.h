// The ordered layers of one mount, opened once and immutable afterwards.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "layers/layer_path.h"
#include "layers/override_stat.h"
#include "layers/sys/result.h"
#include "layers/sys/unique_fd.h"
#include "whiteout/marks.h"

namespace layerfs {

enum class LayerRole { Upper, Init, Lower };

// Position in the stack, topmost first.
using LayerIndex = std::uint16_t;

struct Layer {
  LayerRole role;
  // Position among the lowers, topmost 0; 0 for the other roles.
  unsigned lower_number;
  // As the user named it; for messages only.
  std::string path;
  // O_PATH directory. For a lower, a private read-only noatime clone of its mount where
  // the process may make one, so that even a mistake of ours cannot write to it.
  UniqueFd root;
  dev_t device;
  std::uint64_t fsid;
  // How its objects may keep owner, mode and type.
  OverrideForm override_form;
  // Its root says so.
  bool override_mark;
};

// One layer's contribution to a directory.
struct DirSource {
  LayerIndex layer;
  // Its empty regular files may be whiteouts by attribute (Opaque::Whiteouts).
  bool xattr_whiteouts;
  LayerPath path;
};

struct StackOptions {
  std::vector<std::string> lowers;  // topmost first, at least one for a mount
  std::string upper;                // empty: none
  std::string init;                 // empty: none
  std::string mountpoint;           // empty: the layers are only read
  // Work directories, which need not exist.
  std::vector<std::string> works;
  // Believe override_stat in every layer, also where the layer's root has none: of this form
  // then, and of this where the root has several.
  OverrideForm forced_form = OverrideForm::None;
};

class LayerStack {
 public:
  // Opens and checks the layers: each a readable directory; no upper, init layer or work
  // directory inside another or inside a lower, nor the reverse; no mount point inside any
  // of them. Nothing is made or changed.
  static Result<LayerStack, Failure> open(const StackOptions& options);

  const Layer& at(LayerIndex index) const { return layers_[index]; }
  LayerIndex size() const { return static_cast<LayerIndex>(layers_.size()); }
  std::optional<LayerIndex> upper() const { return upper_; }
  std::optional<LayerIndex> init() const { return init_; }
  LayerIndex first_lower() const { return first_lower_; }
  // "upper", "init" or "lower[3]".
  std::string label(LayerIndex index) const;

 private:
  std::vector<Layer> layers_;
  std::optional<LayerIndex> upper_;
  std::optional<LayerIndex> init_;
  LayerIndex first_lower_ = 0;
};

// True if `inside` is `outside` or lies below it, following ".." on the mounts as they
// are. Both are directories.
Result<bool> is_inside(int inside, int outside);

}  // namespace layerfs
