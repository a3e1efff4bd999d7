#include "layers/layer_stack.h"

#include <fcntl.h>
#include <unistd.h>

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

Result<bool> has_override_mark(int root) {
  for (const char* name : {"user.containers.override_stat", "user.fuseoverlayfs.override_stat"}) {
    LFS_ASSIGN(const auto value, sys::get_xattr({root}, name));
    if (value) {
      return true;
    }
  }
  return false;
}

Result<Layer, Failure> open_layer(LayerRole role, unsigned number, const std::string& path,
                                  bool force_overrides) {
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
  const auto overrides = has_override_mark(root->get());
  if (!st || !identity || !overrides) {
    return cannot_open(role, path,
                       !st         ? st.error()
                       : !identity ? identity.error()
                                   : overrides.error());
  }
  Layer layer{role,
              number,
              path,
              std::move(*root),
              sys::device_of(*st),
              identity->fsid,
              *overrides || force_overrides,
              *overrides};
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

bool same_object(const struct statx& a, const struct statx& b) {
  return a.stx_ino == b.stx_ino && sys::device_of(a) == sys::device_of(b);
}

}  // namespace

Result<bool> is_inside(int inside, int outside) {
  LFS_ASSIGN(const auto target, sys::stat_at({outside}));
  LFS_ASSIGN(UniqueFd at, sys::open_at({inside}, O_PATH | O_DIRECTORY));
  LFS_ASSIGN(auto here, sys::stat_at({at.get()}));
  for (;;) {
    if (same_object(here, target)) {
      return true;
    }
    LFS_ASSIGN(at, sys::open_at({at.get(), ".."}, O_PATH | O_DIRECTORY));
    LFS_ASSIGN(const auto above, sys::stat_at({at.get()}));
    if (same_object(here, above)) {
      return false;
    }
    here = above;
  }
}

namespace {

// A directory of the mount, by the path and the descriptor it was given by: a detached clone
// has no parent to walk up to.
struct Place {
  std::string noun;
  std::string path;
  UniqueFd fd;
  // It does not exist: `fd` is the directory that it would be in.
  bool parent = false;

  std::string name() const { return noun + " " + path; }
};

// nullopt: neither it nor its parent can be opened, which whoever makes it will report.
std::optional<Place> place_of_work(const std::string& path) {
  const char* noun = "work directory";
  if (auto fd = sys::open_path(path, O_PATH | O_DIRECTORY)) {
    return Place{noun, path, std::move(*fd)};
  }
  const std::size_t end = path.find_last_not_of('/');
  const std::size_t slash = path.rfind('/', end);
  const std::string parent = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  if (auto fd = sys::open_path(parent, O_PATH | O_DIRECTORY)) {
    return Place{noun, path, std::move(*fd), true};
  }
  return std::nullopt;
}

Result<void, Failure> refuse_overlap(const Place& a, const Place& b, const char* why) {
  const auto inside = b.parent ? Result<bool>(false) : is_inside(a.fd.get(), b.fd.get());
  const auto around = a.parent ? Result<bool>(false) : is_inside(b.fd.get(), a.fd.get());
  if (!inside || !around) {
    return Failure{a.name() + ": cannot compare with " + b.name() + ": " +
                   describe(!inside ? inside.error() : around.error())};
  }
  if (*inside || *around) {
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
    places.push_back({role_name(LayerRole::Lower).noun, path, std::move(*fd)});
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
  for (const Place& place : places) {
    if (place.parent) {
      continue;
    }
    const auto inside = is_inside(fd->get(), place.fd.get());
    if (!inside) {
      return Failure{"mount point " + mountpoint + ": " + describe(inside.error())};
    }
    if (*inside) {
      return Failure{"mount point " + mountpoint + " lies inside " + place.name() +
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
    LFS_ASSIGN(Layer layer, open_layer(role, 0, path, options.force_overrides));
    auto fd = sys::dup_fd(layer.root.get());
    if (!fd) {
      return cannot_open(role, path, fd.error());
    }
    LFS_TRY(add_written({role_name(role).noun, path, std::move(*fd)}));
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
    if (auto place = place_of_work(path)) {
      LFS_TRY(add_written(std::move(*place)));
    }
  }
  if (!options.mountpoint.empty()) {
    LFS_TRY(refuse_mount_inside(options.mountpoint, written));
    LFS_TRY(refuse_mount_inside(options.mountpoint, lowers));
  }
  for (std::size_t i = 0; i < lowers.size(); ++i) {
    LFS_ASSIGN(Layer layer, open_layer(LayerRole::Lower, static_cast<unsigned>(i),
                                       options.lowers[i], options.force_overrides));
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
