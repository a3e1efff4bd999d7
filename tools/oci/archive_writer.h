// Writes an image as one tar: an OCI image layout, and for docker also its own manifest.json
// and repositories beside it, so that every reader of either finds what it looks for.
#pragma once

#include <optional>
#include <set>

#include "tools/oci/image_writer.h"
#include "tools/oci/output_file.h"

namespace layerfs::oci {

class ArchiveWriter : public ImageWriter {
 public:
  static Fallible<std::unique_ptr<ImageWriter>> create(const ImageReference& reference);

  Fallible<ByteSink*> begin_blob() override;
  Fallible<void> end_blob(const Digest& digest) override;
  Fallible<void> drop_blob() override;
  Fallible<bool> has_blob(const Digest& digest, std::uint64_t size) override;
  Fallible<void> finish(const Descriptor& manifest, const Descriptor& config,
                        const std::vector<Descriptor>& layers) override;

 private:
  explicit ArchiveWriter(ImageReference reference) : reference_(std::move(reference)) {}
  Fallible<void> put_file(const std::string& name, const std::string& bytes);

  ImageReference reference_;
  UniqueFd dir_;
  std::string name_;
  std::optional<OutputFile> file_;
  std::uint64_t begun_ = 0;  // where the header of the blob goes that is being written
  std::set<Digest> blobs_;
};

}  // namespace layerfs::oci
