// An image that is there, to be read.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tools/oci/image.h"
#include "tools/oci/image_files.h"
#include "tools/oci/image_reference.h"

namespace layerfs::oci {

class ImageSource {
 public:
  // Manifest and config are read, and verified where digests name them. Without a name in
  // the reference the place must hold one image only.
  static Fallible<ImageSource> open(const ImageReference& reference);

  const Image& image() const { return image_; }
  const ImageReference& reference() const { return reference_; }
  // The blob of a layer as it is stored. Read to its end it is verified, where the image
  // has a digest for it.
  Fallible<std::unique_ptr<ByteSource>> open_layer(std::size_t index) const;

 private:
  ImageSource(ImageReference reference, std::unique_ptr<ImageFiles> files)
      : reference_(std::move(reference)), files_(std::move(files)) {}
  Fallible<void> read_layout();
  Fallible<void> read_docker();
  Fallible<Descriptor> choose_manifest() const;
  Fallible<nlohmann::json> read_blob_document(const Descriptor& descriptor) const;
  Fallible<void> set_config(nlohmann::json config, std::vector<ImageLayer> layers,
                            const std::string& shown);

  ImageReference reference_;
  std::unique_ptr<ImageFiles> files_;
  Image image_;
  std::vector<std::string> names_;  // of the layers' files
};

std::string blob_name(const Digest& digest);

}  // namespace layerfs::oci
