#include "tools/oci/image_build.h"

#include <algorithm>

#include "tools/oci/decompress.h"
#include "tools/oci/document.h"
#include "tools/oci/image_change.h"

namespace layerfs::oci {
namespace {

using nlohmann::json;

constexpr const char* kMadeBy = "layerfs commit";
constexpr std::size_t kCopyBytes = 1 << 20;

// Readers want as many entries that are not empty as there are layers.
void complete_history(json& history, std::size_t layers, bool squashed) {
  std::size_t filled = 0;
  for (json& entry : history) {
    if (squashed) {
      entry["empty_layer"] = true;
    }
    filled += entry.value("empty_layer", false) ? 0 : 1;
  }
  for (; !squashed && filled < layers; ++filled) {
    history.push_back({{"comment", "not recorded"}});
  }
}

// Of a layer that is only named by the digest of its tar.
Fallible<void> verify_content(const ImageSource& base, std::size_t index,
                              const ImageBuilder::Progress& progress) {
  const std::string shown = "layer " + std::to_string(index + 1) + " of " + base.reference().text();
  LFS_ASSIGN(auto blob, base.open_layer(index));
  VerifiedSource tar(decompress(std::move(blob), shown), base.image().layers[index].diff_id, shown);
  std::string buffer(kCopyBytes, '\0');
  for (;;) {
    LFS_ASSIGN(const std::size_t have, tar.read(buffer.data(), buffer.size()));
    if (have == 0) {
      return {};
    }
    LFS_TRY(progress(0));
  }
}

}  // namespace

ImageBuilder::ImageBuilder(ImageWriter& writer)
    : writer_(writer),
      config_({{"architecture", machine_architecture()},
               {"os", "linux"},
               {"config", json::object()},
               {"history", json::array()}}) {}

Fallible<void> ImageBuilder::take_base(const ImageSource& base, bool squashed,
                                       const Progress& progress) {
  const Image& image = base.image();
  config_ = image.config;
  base_ = image.manifest;
  LFS_TRY(read_document(base.reference().text(), [&]() -> Fallible<void> {
    if (!config_.contains("config") || config_["config"].is_null()) {
      config_["config"] = json::object();
    }
    json& history = config_["history"];
    if (!history.is_array()) {
      history = json::array();
    }
    complete_history(history, image.layers.size(), squashed);
    return {};
  }));
  for (std::size_t i = 0; i < image.layers.size() && !squashed; ++i) {
    LFS_TRY(copy_layer(base, i, progress));
  }
  return {};
}

Fallible<void> ImageBuilder::copy_layer(const ImageSource& base, std::size_t index,
                                        const Progress& progress) {
  ImageLayer layer = base.image().layers[index];
  if (layer.digest) {
    LFS_ASSIGN(const bool there, writer_.has_blob(*layer.digest, layer.size));
    if (there) {
      layers_.push_back(std::move(layer));
      return {};
    }
  }
  if (!layer.digest) {
    LFS_TRY(verify_content(base, index, progress));
  }
  LFS_ASSIGN(const auto source, base.open_layer(index));
  LFS_ASSIGN(ByteSink* const sink, writer_.begin_blob());
  Sha256 hash;
  std::string buffer(kCopyBytes, '\0');
  for (;;) {
    LFS_ASSIGN(const std::size_t have, source->read(buffer.data(), buffer.size()));
    if (have == 0) {
      break;
    }
    hash.add({buffer.data(), have});
    LFS_TRY(sink->write({buffer.data(), have}));
    LFS_TRY(progress(have));
  }
  layer.digest = hash.finish();
  LFS_TRY(writer_.end_blob(*layer.digest));
  layers_.push_back(std::move(layer));
  return {};
}

Fallible<Packed> ImageBuilder::add_layer(const MergedView& before, const MergedView& now,
                                         const PackOptions& options, bool last) {
  LFS_ASSIGN(ByteSink* const sink, writer_.begin_blob());
  LFS_ASSIGN(Packed packed, pack_layer(before, now, *sink, options));
  const bool wanted = packed.entries > 0 || (last && layers_.empty());
  LFS_TRY(wanted ? writer_.end_blob(packed.info.digest) : writer_.drop_blob());
  json entry = {{"created_by", kMadeBy}};
  if (packed.newest) {
    newest_ = std::max(newest_.value_or(*packed.newest), *packed.newest);
    entry["created"] = format_time(*packed.newest);
  }
  if (wanted) {
    const LayerInfo& info = packed.info;
    layers_.push_back({info.codec, info.diff_id, info.digest, info.bytes});
  } else {
    entry["empty_layer"] = true;
  }
  config_["history"].push_back(std::move(entry));
  return packed;
}

Fallible<BuiltImage> ImageBuilder::finish(const ImageNotes& notes) {
  const auto created = notes.created ? notes.created : newest_;
  LFS_TRY(apply_changes(config_["config"], notes.changes));
  json annotations = json::object();
  json& last = config_["history"].back();
  if (created) {
    const std::string time = format_time(*created);
    config_["created"] = time;
    last["created"] = time;
    annotations["org.opencontainers.image.created"] = time;
  }
  if (!notes.author.empty()) {
    config_["author"] = notes.author;
    last["author"] = notes.author;
  }
  if (!notes.message.empty()) {
    last["comment"] = notes.message;
  }
  if (base_) {
    annotations["org.opencontainers.image.base.digest"] = base_->text();
  }
  json ids = json::array();
  std::vector<Descriptor> blobs;
  for (const ImageLayer& layer : layers_) {
    ids.push_back(layer.diff_id.text());
    blobs.push_back({layer_media_type(layer.codec), *layer.digest, layer.size});
  }
  config_["rootfs"] = {{"type", "layers"}, {"diff_ids", std::move(ids)}};
  LFS_ASSIGN(const Descriptor config, writer_.write_blob(kConfigType, print_document(config_)));
  json manifest = {{"schemaVersion", 2},
                   {"mediaType", kManifestType},
                   {"config", to_json(config)},
                   {"layers", json::array()}};
  for (const Descriptor& blob : blobs) {
    manifest["layers"].push_back(to_json(blob));
  }
  if (!annotations.empty()) {
    manifest["annotations"] = std::move(annotations);
  }
  LFS_ASSIGN(Descriptor written, writer_.write_blob(kManifestType, print_document(manifest)));
  LFS_TRY(writer_.finish(written, config, blobs));
  return BuiltImage{std::move(written), config, layers_};
}

}  // namespace layerfs::oci
