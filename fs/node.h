// One object as the kernel knows it.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fs/listing_generation.h"
#include "layers/layer_stack.h"

namespace layerfs {

using NodeId = std::uint64_t;
inline constexpr NodeId kRootId = 1;

// Where the object's attributes live at present.
//   Lower -> Writable  by copy-up, once and for good
//   Lower -> Indexed  by copy-up of a file with several lower names
//   Writable, Indexed, Lower -> Parked  once the last known name is deleted
//   Parked -> Writable by linking it again (O_TMPFILE, or another hard link was met)
enum class Place : std::uint8_t {
  Lower,     // in layer `layer`: at parent and name, or where `detached` says
  Writable,  // in the upper or init layer `layer`, at parent and name
  Indexed,   // in the index of the upper's work directory, whatever names it has
  Parked,    // in the work directory of `layer`, its last known name gone
};

// Whether a regular file's data is where its attributes are.
enum class Content : std::uint8_t { Unknown, Here, Below /* metacopy */ };

struct Node;

struct DirState {
  // Init and lower layers that contribute, topmost first. Immutable after creation.
  std::vector<DirSource> sources;
  // Where the sources are in the merged view of the lower layers: what a redirect says.
  LayerPath view;
  // The writable directory holds objects with an origin of their own.
  bool impure = false;
  // Its empty regular files may be whiteouts by attribute (Opaque::Whiteouts).
  bool xattr_whiteouts = false;
  ListingGeneration generation;

  // Null: the layer does not contribute.
  const DirSource* source_in(LayerIndex layer) const {
    for (const DirSource& source : sources) {
      if (source.layer == layer) {
        return &source;
      }
    }
    return nullptr;
  }
};

// One further name of a hard-linked object.
struct Alias {
  Node* parent;
  std::string name;
};

// What few objects need.
struct NodeExtra {
  std::vector<Alias> aliases;
  // Parked: the name in work/. Indexed: the name in the index.
  std::string parked_name;
  std::string index_name;
  // st_nlink through all layers, less the stored inode's own.
  std::int32_t link_delta = 0;
  // Lower, its name deleted: the directory that holds it, with `detached_name` in it.
  std::optional<DirSource> detached_dir;
  std::string detached_name;
  // A metacopy file's data, once sought.
  std::optional<DirSource> data;
  bool redirected = false;  // the metacopy file carries a redirect to its data
  // Indexed: some name of it is in the upper, so that the change shows there.
  bool linked_in_upper = false;
};

// All fields are guarded by the tree lock (shared to read, exclusive to write), except
// `lookups` and `children`, which the node table guards.
struct Node {
  NodeId id = 0;
  std::uint64_t lookups = 0;  // the kernel's count
  Node* parent = nullptr;     // null for the root and when no name is left
  Node* next_in_bucket = nullptr;
  std::uint64_t ino = 0;  // st_ino as shown
  std::string name;
  std::unique_ptr<DirState> dir;
  std::unique_ptr<NodeExtra> extra;
  std::uint32_t children = 0;  // nodes and aliases whose parent this is
  LayerIndex layer = 0;
  Place place = Place::Lower;
  std::uint8_t type = 0;  // DT_*, as shown
  // Also set under the shared lock, always to the same value.
  Content content = Content::Unknown;
  // What names and describes the stored file is on disk, so that syncing its data is enough.
  // Set under the shared lock too, never taken back.
  bool is_settled = false;
  // It got its name or its data by a copy-up since the mount.
  bool is_new_copy = false;

  bool is_dir() const { return dir != nullptr; }
  bool is_below() const { return place == Place::Lower; }
  NodeExtra& extras() {
    if (!extra) {
      extra = std::make_unique<NodeExtra>();
    }
    return *extra;
  }
};

// The path below the mount, without a leading slash. REQUIRES: the tree lock.
std::string path_of(const Node& node);

}  // namespace layerfs
