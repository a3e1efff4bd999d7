#include "layers/layer_stack.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <limits>

namespace layerfs {
namespace {

struct RoleName {
  const char* noun;
  const char* remedy;
};

RoleName role_name(LayerRole role) {
  switch (role) {
    case LayerRole::Upper:
      return {"upper directory", "create it first, on a writable filesystem"};
    case LayerRole::Init:
      return {"init layer", "create the directory first"};
    case LayerRole::Lower:
      break;
  }
  return {"lower layer", "check the path and its permissions"};
}

Failure cannot_open(LayerRole role, const std::string& path, Errno error) {
  const RoleName name = role_name(role);
  return {std::string(name.noun) + " " + path + ": " + describe(error) + "; " + name.remedy};
}

// The form that the layer's root has the attribute of, or None. After the wanted one in the
// order of fuse-overlayfs 1.16 (direct.c: direct_load_data_source).
Result<OverrideForm> marked_form(int root, OverrideForm wanted) {
  for (const OverrideForm form :
       {wanted, OverrideForm::Security, OverrideForm::Containers, OverrideForm::FuseOverlayfs}) {
    if (form == OverrideForm::None) {
      continue;
    }
    LFS_ASSIGN(const auto value, sys::get_xattr({root}, override_stat_xattr(form)));
    if (value) {
      return form;
    }
  }
  return OverrideForm::None;
}

Result<Layer, Failure> open_layer(LayerRole role, unsigned number, const std::string& path,
                                  OverrideForm forced) {
  auto root = sys::open_path(path, O_PATH | O_DIRECTORY);
  if (!root) {
    return cannot_open(role, path, root.error());
  }
  // A layer that cannot be listed would show as empty.
  if (auto readable = sys::open_at({root->get(), "."}, O_RDONLY | O_DIRECTORY); !readable) {
    return cannot_open(role, path, readable.error());
  }
  const auto st = sys::stat_at({root->get()});
  const auto identity = sys::fs_identity(root->get());
  const auto marked = marked_form(root->get(), forced);
  if (!st || !identity || !marked) {
    return cannot_open(role, path,
                       !st         ? st.error()
                       : !identity ? identity.error()
                                   : marked.error());
  }
  Layer layer{role,
              number,
              path,
              std::move(*root),
              sys::device_of(*st),
              identity->fsid,
              *marked == OverrideForm::None ? forced : *marked,
              *marked != OverrideForm::None};
  if (role == LayerRole::Lower) {
    auto clone = sys::clone_tree_read_only(layer.root.get());
    if (clone) {
      layer.root = std::move(*clone);
    }
    // Without the privilege the layer is used as it is: nothing here opens a lower for
    // writing, the clone is the second lock on that door.
  }
  return layer;
}

struct ObjectId {
  dev_t device;
  std::uint64_t ino;
  bool operator==(const ObjectId&) const = default;
};

Result<ObjectId> object_id(int fd) {
  LFS_ASSIGN(const auto st, sys::stat_at({fd}));
  return ObjectId{sys::device_of(st), st.stx_ino};
}

// The directory and all above it, following ".." on the mounts as they are.
Result<std::vector<ObjectId>> self_and_above(int dir) {
  LFS_ASSIGN(UniqueFd at, sys::open_at({dir}, O_PATH | O_DIRECTORY));
  std::vector<ObjectId> ids;
  for (;;) {
    LFS_ASSIGN(const ObjectId here, object_id(at.get()));
    if (!ids.empty() && here == ids.back()) {
      return ids;
    }
    ids.push_back(here);
    LFS_ASSIGN(at, sys::open_at({at.get(), ".."}, O_PATH | O_DIRECTORY));
  }
}

bool contains(const std::vector<ObjectId>& ids, const ObjectId& id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

}  // namespace

Result<bool> is_inside(int inside, int outside) {
  LFS_ASSIGN(const ObjectId target, object_id(outside));
  LFS_ASSIGN(const auto ids, self_and_above(inside));
  return contains(ids, target);
}

namespace {

// A directory of the mount as it was given: a detached clone has no parent to walk up to.
struct Place {
  std::string noun;
  std::string path;
  // Of itself and all above it; where it does not exist, of what it would be in.
  std::vector<ObjectId> ids;
  bool exists = true;

  std::string name() const { return noun + " " + path; }
  bool is_inside(const Place& other) const {
    return other.exists && contains(ids, other.ids.front());
  }
};

Result<Place, Failure> place_of(const char* noun, const std::string& path, int fd) {
  auto ids = self_and_above(fd);
  if (!ids) {
    return Failure{std::string(noun) + " " + path +
                   ": cannot look above it: " + describe(ids.error())};
  }
  return Place{noun, path, std::move(*ids)};
}

// nullopt: neither it nor its parent can be opened, which whoever makes it will report.
Result<std::optional<Place>, Failure> place_of_work(const std::string& path) {
  const char* noun = "work directory";
  if (const auto fd = sys::open_path(path, O_PATH | O_DIRECTORY)) {
    LFS_ASSIGN(Place place, place_of(noun, path, fd->get()));
    return std::optional(std::move(place));
  }
  const std::size_t end = path.find_last_not_of('/');
  const std::size_t slash = path.rfind('/', end);
  const std::string parent = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const auto fd = sys::open_path(parent, O_PATH | O_DIRECTORY);
  if (!fd) {
    return std::optional<Place>();
  }
  LFS_ASSIGN(Place place, place_of(noun, path, fd->get()));
  place.exists = false;
  return std::optional(std::move(place));
}

Result<void, Failure> refuse_overlap(const Place& a, const Place& b, const char* why) {
  if (a.is_inside(b) || b.is_inside(a)) {
    return Failure{a.name() + " and " + b.name() + " overlap; " + why + "use separate directories"};
  }
  return {};
}

Result<std::vector<Place>, Failure> places_of_lowers(const std::vector<std::string>& paths) {
  std::vector<Place> places;
  for (const std::string& path : paths) {
    auto fd = sys::open_path(path, O_PATH | O_DIRECTORY);
    if (!fd) {
      return cannot_open(LayerRole::Lower, path, fd.error());
    }
    if (auto readable = sys::open_at({fd->get(), "."}, O_RDONLY | O_DIRECTORY); !readable) {
      return cannot_open(LayerRole::Lower, path, readable.error());
    }
    LFS_ASSIGN(Place place, place_of(role_name(LayerRole::Lower).noun, path, fd->get()));
    places.push_back(std::move(place));
  }
  return places;
}

Result<void, Failure> refuse_mount_inside(const std::string& mountpoint,
                                          const std::vector<Place>& places) {
  const auto fd = sys::open_path(mountpoint, O_PATH | O_DIRECTORY);
  if (!fd) {
    return Failure{"mount point " + mountpoint + ": " + describe(fd.error()) +
                   "; create the directory first"};
  }
  LFS_ASSIGN(const Place mount, place_of("mount point", mountpoint, fd->get()));
  for (const Place& place : places) {
    if (mount.is_inside(place)) {
      return Failure{mount.name() + " lies inside " + place.name() +
                     "; reading it would wait for itself, mount somewhere else"};
    }
  }
  return {};
}

}  // namespace

Result<LayerStack, Failure> LayerStack::open(const StackOptions& options) {
  if (options.lowers.size() > std::numeric_limits<LayerIndex>::max() - 2U) {
    return Failure{"too many lower layers: at most 65533"};
  }
  LayerStack stack;
  LFS_ASSIGN(std::vector<Place> lowers, places_of_lowers(options.lowers));
  std::vector<Place> written;
  const auto add_written = [&](Place place) -> Result<void, Failure> {
    for (const Place& lower : lowers) {
      LFS_TRY(refuse_overlap(place, lower, "a lower must not change while it is mounted, "));
    }
    for (const Place& other : written) {
      LFS_TRY(refuse_overlap(place, other, ""));
    }
    written.push_back(std::move(place));
    return {};
  };
  const auto add_writable = [&](LayerRole role,
                                const std::string& path) -> Result<LayerIndex, Failure> {
    LFS_ASSIGN(Layer layer, open_layer(role, 0, path, options.forced_form));
    LFS_ASSIGN(Place place, place_of(role_name(role).noun, path, layer.root.get()));
    LFS_TRY(add_written(std::move(place)));
    stack.layers_.push_back(std::move(layer));
    return static_cast<LayerIndex>(stack.layers_.size() - 1);
  };
  if (!options.upper.empty()) {
    LFS_ASSIGN(stack.upper_, add_writable(LayerRole::Upper, options.upper));
  }
  if (!options.init.empty()) {
    LFS_ASSIGN(stack.init_, add_writable(LayerRole::Init, options.init));
  }
  stack.first_lower_ = static_cast<LayerIndex>(stack.layers_.size());
  for (const std::string& path : options.works) {
    LFS_ASSIGN(auto place, place_of_work(path));
    if (place) {
      LFS_TRY(add_written(std::move(*place)));
    }
  }
  if (!options.mountpoint.empty()) {
    LFS_TRY(refuse_mount_inside(options.mountpoint, written));
    LFS_TRY(refuse_mount_inside(options.mountpoint, lowers));
  }
  for (std::size_t i = 0; i < lowers.size(); ++i) {
    LFS_ASSIGN(Layer layer, open_layer(LayerRole::Lower, static_cast<unsigned>(i),
                                       options.lowers[i], options.forced_form));
    stack.layers_.push_back(std::move(layer));
  }
  return stack;
}

std::string LayerStack::label(LayerIndex index) const {
  const Layer& layer = layers_[index];
  switch (layer.role) {
    case LayerRole::Upper:
      return "upper";
    case LayerRole::Init:
      return "init";
    case LayerRole::Lower:
      break;
  }
  return "lower[" + std::to_string(layer.lower_number) + "]";
}

}  // namespace layerfs
