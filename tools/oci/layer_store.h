// Unpacked layers by what they hold, shared by all images that have them:
//   store.json            what this directory is
//   lock                  flock: shared by whoever adds, exclusive for whoever removes
//   layers/KEY/diff/      a layer; KEY is its diff id and the form of its marks
//   layers/KEY/layer.json
//   images/HASH.json      a name and the layers that it needs, the bottom one first
//   tmp/                  what is being made; flock on layers being made
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "tools/oci/layer_unpack.h"

namespace layerfs::oci {

struct StoredLayer {
  std::string key;
  std::string path;  // of the tree
  Digest diff_id;
  std::uint64_t bytes = 0;
  std::uint64_t entries = 0;
  std::uint64_t loss_count = 0;
  bool has_implied = false;  // what is below decided how some directories are
  LossList losses;           // if it was unpacked just now
  bool was_there = false;
};

struct StoredImage {
  std::string name;
  std::vector<std::string> layers;  // keys, the bottom one first
};

struct LayerRequest {
  std::string shown;
  std::optional<Digest> diff_id;  // nullopt: unpack it to know
  std::function<Fallible<std::unique_ptr<ByteSource>>()> open;
};

struct StoreUnpackOptions {
  MarkWishes marks;
  std::optional<bool> override_stat;  // nullopt: where owners cannot be set
  ApplyLimits limits;
  unsigned threads = 1;
  bool strict = false;  // what the store cannot hold is a failure
  bool sync = true;     // a layer is on disk before it has its name
  std::function<Fallible<void>(std::uint64_t bytes)> progress;
};

class LayerStore {
 public:
  enum class Access { Read, Add, Remove };
  // Add makes the directory if it is missing or empty. `poll` is called while others hold
  // the lock; an error of it ends the waiting.
  using Poll = std::function<Fallible<void>()>;
  static Fallible<LayerStore> open(const std::string& path, Access access, const Poll& poll);

  // All of them, the bottom one first, unpacked where they are not there yet.
  Fallible<std::vector<StoredLayer>> provide(const std::vector<LayerRequest>& requests,
                                             const StoreUnpackOptions& options);
  // The name needs these layers; what it needed before it needs no more.
  Fallible<void> set_image(const StoredImage& image);

  Fallible<std::vector<StoredImage>> images() const;
  Fallible<std::vector<StoredLayer>> layers() const;
  // false: there is no such name.
  Fallible<bool> remove_image(const std::string& name);
  Fallible<void> remove_layer(const std::string& key);
  // What runs that were killed have left in tmp/.
  Fallible<void> clean_temporary();

 private:
  class Unpacking;
  LayerStore() = default;
  Fallible<void> create(const std::string& path);
  Fallible<std::optional<StoredLayer>> find(const std::string& key) const;
  Fallible<StoredLayer> read_layer(const std::string& key) const;

  std::string path_;
  UniqueFd root_;
  UniqueFd lock_;
  UniqueFd layers_;
  UniqueFd images_;
  UniqueFd temp_;
};

}  // namespace layerfs::oci
