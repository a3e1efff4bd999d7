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
              *overrides || force_overrides};
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

Result<LayerStack, Failure> LayerStack::open(const StackOptions& options) {
  if (options.lowers.size() > std::numeric_limits<LayerIndex>::max() - 2U) {
    return Failure{"too many lower layers: at most 65533"};
  }
  LayerStack stack;
  // Checked on the paths as given: a detached clone has no parent to walk up to.
  std::vector<UniqueFd> lower_fds;
  for (const std::string& path : options.lowers) {
    auto fd = sys::open_path(path, O_PATH | O_DIRECTORY);
    if (!fd) {
      return cannot_open(LayerRole::Lower, path, fd.error());
    }
    if (auto readable = sys::open_at({fd->get(), "."}, O_RDONLY | O_DIRECTORY); !readable) {
      return cannot_open(LayerRole::Lower, path, readable.error());
    }
    lower_fds.push_back(std::move(*fd));
  }
  const auto refuse_overlap = [&](const std::string& path, const char* noun,
                                  int fd) -> Result<void, Failure> {
    for (std::size_t i = 0; i < lower_fds.size(); ++i) {
      const auto inside = is_inside(fd, lower_fds[i].get());
      const auto around = is_inside(lower_fds[i].get(), fd);
      if (!inside || !around) {
        return Failure{std::string(noun) + " " + path + ": cannot compare with layer " +
                       options.lowers[i] + ": " +
                       describe(!inside ? inside.error() : around.error())};
      }
      if (*inside || *around) {
        return Failure{std::string(noun) + " " + path + " and lower layer " + options.lowers[i] +
                       " overlap; a lower must not change while it is mounted, use separate "
                       "directories"};
      }
    }
    return {};
  };
  const auto add_writable = [&](LayerRole role,
                                const std::string& path) -> Result<LayerIndex, Failure> {
    LFS_ASSIGN(Layer layer, open_layer(role, 0, path, options.force_overrides));
    LFS_TRY(refuse_overlap(path, role_name(role).noun, layer.root.get()));
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

  std::optional<Result<UniqueFd>> mountpoint;
  if (!options.mountpoint.empty()) {
    mountpoint = sys::open_path(options.mountpoint, O_PATH | O_DIRECTORY);
  }
  if (mountpoint && !*mountpoint) {
    return Failure{"mount point " + options.mountpoint + ": " + describe(mountpoint->error()) +
                   "; create the directory first"};
  }
  const auto refuse_inside = [&](int layer, const std::string& path) -> Result<void, Failure> {
    if (!mountpoint) {
      return {};
    }
    const auto inside = is_inside((*mountpoint)->get(), layer);
    if (!inside) {
      return Failure{"mount point " + options.mountpoint + ": " + describe(inside.error())};
    }
    if (*inside) {
      return Failure{"mount point " + options.mountpoint + " lies inside layer " + path +
                     "; reading it would wait for itself, mount somewhere else"};
    }
    return {};
  };
  for (const Layer& layer : stack.layers_) {
    LFS_TRY(refuse_inside(layer.root.get(), layer.path));
  }
  for (std::size_t i = 0; i < lower_fds.size(); ++i) {
    LFS_TRY(refuse_inside(lower_fds[i].get(), options.lowers[i]));
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
