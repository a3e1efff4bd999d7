// A new image made of the layers of another and of packed trees.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tools/oci/image_source.h"
#include "tools/oci/image_writer.h"
#include "tools/oci/pack.h"

namespace layerfs::oci {

struct ImageNotes {
  std::string author;
  std::string message;
  std::vector<std::string> changes;     // apply_changes()
  std::optional<std::int64_t> created;  // nullopt: the newest time in what was packed
};

struct BuiltImage {
  Descriptor manifest;
  Descriptor config;
  std::vector<ImageLayer> layers;
};

class ImageBuilder {
 public:
  // `writer` outlives this.
  explicit ImageBuilder(ImageWriter& writer);

  // Begins with that image's config, and its layers unless `squashed`: then they only stay
  // in the history. `progress` is told of bytes copied.
  using Progress = std::function<Fallible<void>(std::uint64_t bytes)>;
  Fallible<void> take_base(const ImageSource& base, bool squashed, const Progress& progress);
  // What `now` has over `before` as the next layer; none if that is nothing, unless `last`
  // and the image would have no layer at all.
  Fallible<Packed> add_layer(const MergedView& before, const MergedView& now,
                             const PackOptions& options, bool last);
  // Makes it seen.
  Fallible<BuiltImage> finish(const ImageNotes& notes);

 private:
  Fallible<void> copy_layer(const ImageSource& base, std::size_t index, const Progress& progress);

  ImageWriter& writer_;
  nlohmann::json config_;
  std::vector<ImageLayer> layers_;
  std::optional<Digest> base_;
  std::optional<std::int64_t> newest_;
};

}  // namespace layerfs::oci
