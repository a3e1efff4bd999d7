// Writes an image into an OCI image layout, a new one or one that holds other images.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tools/oci/image_writer.h"
#include "tools/oci/output_file.h"

namespace layerfs::oci {

class LayoutWriter : public ImageWriter {
 public:
  static Fallible<std::unique_ptr<ImageWriter>> create(const ImageReference& reference);
  ~LayoutWriter() override;

  Fallible<ByteSink*> begin_blob() override;
  Fallible<void> end_blob(const Digest& digest) override;
  Fallible<void> drop_blob() override;
  Fallible<bool> has_blob(const Digest& digest, std::uint64_t size) override;
  Fallible<void> finish(const Descriptor& manifest, const Descriptor& config,
                        const std::vector<Descriptor>& layers) override;

 private:
  explicit LayoutWriter(ImageReference reference) : reference_(std::move(reference)) {}
  Fallible<void> open_existing(UniqueFd dir);
  Fallible<void> make_new();
  Fallible<void> fill_new();
  Fallible<void> publish_blobs();
  Fallible<void> add_to_index(const Descriptor& manifest);
  // The layout that somebody else has made meanwhile takes the blobs.
  Fallible<void> join_other();
  Fallible<void> put_document(int dir, const char* name, const nlohmann::json& document);
  Fallible<nlohmann::json> read_index() const;

  ImageReference reference_;
  UniqueFd root_;
  UniqueFd blobs_;
  // A new layout is made under another name in the directory it goes to.
  UniqueFd parent_;
  std::string name_;
  std::string temp_name_;  // "": the directory was there
  bool made_folders_ = false;
  std::optional<OutputFile> blob_;
  // Without names until the end, so that an interruption leaves none of them.
  std::map<Digest, OutputFile> written_;
  std::vector<std::string> published_;  // those with names, of no use without the index
};

}  // namespace layerfs::oci
