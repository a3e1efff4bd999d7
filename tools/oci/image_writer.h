// Where an image is written to. Nothing of it is seen before finish(), and nothing is left
// if that is never reached.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tools/oci/image.h"
#include "tools/oci/image_reference.h"

namespace layerfs::oci {

class ImageWriter {
 public:
  ImageWriter() = default;
  ImageWriter(const ImageWriter&) = delete;
  ImageWriter& operator=(const ImageWriter&) = delete;
  virtual ~ImageWriter() = default;

  // Checks the name of the reference, and that the place can be written to.
  static Fallible<std::unique_ptr<ImageWriter>> create(const ImageReference& reference);

  // One blob at a time: what is written to the sink until end_blob() or drop_blob().
  virtual Fallible<ByteSink*> begin_blob() = 0;
  virtual Fallible<void> end_blob(const Digest& digest) = 0;
  // It is not wanted after all.
  virtual Fallible<void> drop_blob() = 0;
  // The place has this blob already, whole.
  virtual Fallible<bool> has_blob(const Digest& digest, std::uint64_t size) = 0;
  Fallible<Descriptor> write_blob(const std::string& media_type, const std::string& bytes);

  // The image whose manifest is this takes the name of the reference.
  virtual Fallible<void> finish(const Descriptor& manifest, const Descriptor& config,
                                const std::vector<Descriptor>& layers) = 0;
};

// The entry of an index for an image of that name.
nlohmann::json index_entry(const Descriptor& manifest, const ImageReference& reference);

}  // namespace layerfs::oci
