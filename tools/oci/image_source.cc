#include "tools/oci/image_source.h"

#include <array>

#include "tools/oci/document.h"

namespace layerfs::oci {
namespace {

// An index may name an index; not without end.
constexpr int kMostIndexes = 4;

std::string annotation(const nlohmann::json& descriptor, const char* key) {
  const auto annotations = descriptor.value("annotations", nlohmann::json::object());
  return annotations.is_object() ? annotations.value(key, std::string()) : std::string();
}

std::string list_names(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& name : names) {
    out += (out.empty() ? "'" : ", '") + name + "'";
  }
  return out.empty() ? "none" : out;
}

// Which of the images of an index or an archive is meant.
class Choice {
 public:
  explicit Choice(const ImageReference& reference) : reference_(reference) {}

  void offer(const nlohmann::json& item, bool is_wanted) {
    several_ = several_ || (is_wanted && chosen_ != nullptr);
    chosen_ = is_wanted ? &item : chosen_;
  }
  void name(std::string name) { names_.push_back(std::move(name)); }
  Fallible<const nlohmann::json*> end(const std::string& shown) const {
    if (several_) {
      return Failure{"'" + reference_.text() +
                     "' could be several images; name one of: " + list_names(names_)};
    }
    if (chosen_ == nullptr) {
      return Failure{"'" + shown + "' has no image '" + reference_.name +
                     "'; those that it has: " + list_names(names_)};
    }
    return chosen_;
  }

 private:
  const ImageReference& reference_;
  std::vector<std::string> names_;
  const nlohmann::json* chosen_ = nullptr;
  bool several_ = false;
};

}  // namespace

std::string blob_name(const Digest& digest) { return "blobs/sha256/" + std::string(digest.hex()); }

Fallible<ImageSource> ImageSource::open(const ImageReference& reference) {
  auto files = reference.transport == Transport::Oci ? open_directory_files(reference.path)
                                                     : open_archive_files(reference.path);
  if (!files) {
    return files.error();
  }
  ImageSource source(reference, std::move(*files));
  LFS_TRY(reference.transport == Transport::DockerArchive ? source.read_docker()
                                                          : source.read_layout());
  return source;
}

Fallible<nlohmann::json> ImageSource::read_blob_document(const Descriptor& descriptor) const {
  LFS_ASSIGN(const auto extent, files_->find(blob_name(descriptor.digest)));
  if (!extent) {
    return Failure{"'" + files_->shown() + "' lacks the blob " + descriptor.digest.text()};
  }
  VerifiedSource source(std::make_unique<ExtentSource>(*extent), descriptor.digest, extent->shown);
  LFS_ASSIGN(const std::string text, read_all(source, kMostDocumentBytes, extent->shown));
  return parse_document(text, extent->shown);
}

Fallible<Descriptor> ImageSource::choose_manifest() const {
  LFS_ASSIGN(const std::string text, files_->read_small("index.json"));
  const std::string shown = files_->shown() + "/index.json";
  LFS_ASSIGN(const nlohmann::json index, parse_document(text, shown));
  return read_document(shown, [&]() -> Fallible<Descriptor> {
    const nlohmann::json& manifests = index.at("manifests");
    Choice choice(reference_);
    for (const nlohmann::json& item : manifests) {
      const std::string name = annotation(item, kRefNameKey);
      choice.name(name);
      choice.offer(item, reference_.name.empty() || name == reference_.name ||
                             annotation(item, kContainerdNameKey) == reference_.name);
    }
    LFS_ASSIGN(const nlohmann::json* chosen, choice.end(files_->shown()));
    return parse_descriptor(*chosen, shown);
  });
}

Fallible<void> ImageSource::read_layout() {
  LFS_ASSIGN(const std::string text, files_->read_small("oci-layout"));
  const std::string shown = files_->shown() + "/oci-layout";
  LFS_ASSIGN(const nlohmann::json layout, parse_document(text, shown));
  LFS_TRY(read_document(shown, [&]() -> Fallible<void> {
    const auto version = layout.at("imageLayoutVersion").get<std::string>();
    if (!version.starts_with("1.")) {
      return not_as_specified(shown, "its version is " + version);
    }
    return {};
  }));
  LFS_ASSIGN(Descriptor descriptor, choose_manifest());
  LFS_ASSIGN(nlohmann::json document, read_blob_document(descriptor));
  for (int i = 0; document.contains("manifests") && i < kMostIndexes; ++i) {
    LFS_ASSIGN(descriptor, choose_by_platform(document, descriptor.digest.text()));
    LFS_ASSIGN(document, read_blob_document(descriptor));
  }
  LFS_ASSIGN(const Manifest manifest, parse_manifest(document, descriptor.digest.text()));
  LFS_ASSIGN(nlohmann::json config, read_blob_document(manifest.config));
  std::vector<ImageLayer> layers;
  for (const Descriptor& layer : manifest.layers) {
    LFS_ASSIGN(const Codec codec, codec_of_media_type(layer.media_type, reference_.text()));
    layers.push_back({codec, layer.digest, layer.digest, layer.size});
    names_.push_back(blob_name(layer.digest));
  }
  image_.manifest = descriptor.digest;
  return set_config(std::move(config), std::move(layers), manifest.config.digest.text());
}

Fallible<void> ImageSource::read_docker() {
  LFS_ASSIGN(const std::string text, files_->read_small("manifest.json"));
  const std::string shown = files_->shown() + ": manifest.json";
  LFS_ASSIGN(const nlohmann::json document, parse_document(text, shown));
  std::string wanted;
  if (!reference_.name.empty()) {
    LFS_ASSIGN(wanted, full_docker_name(reference_.name));
  }
  std::string config_name;
  LFS_TRY(read_document(shown, [&]() -> Fallible<void> {
    Choice choice(reference_);
    for (const nlohmann::json& item : document) {
      const nlohmann::json tags = item.value("RepoTags", nlohmann::json());
      bool is_wanted = wanted.empty();
      for (const nlohmann::json& tag : tags.is_array() ? tags : nlohmann::json::array()) {
        choice.name(tag.get<std::string>());
        const auto full = full_docker_name(tag.get<std::string>());
        is_wanted = is_wanted || (full && *full == wanted);
      }
      choice.offer(item, is_wanted);
    }
    LFS_ASSIGN(const nlohmann::json* chosen, choice.end(files_->shown()));
    config_name = chosen->at("Config").get<std::string>();
    names_ = chosen->at("Layers").get<std::vector<std::string>>();
    return {};
  }));
  LFS_ASSIGN(const std::string config_text, files_->read_small(config_name));
  LFS_ASSIGN(nlohmann::json config, parse_document(config_text, config_name));
  std::vector<ImageLayer> layers;
  for (const std::string& name : names_) {
    LFS_ASSIGN(const auto extent, files_->find(name));
    if (!extent) {
      return Failure{"'" + files_->shown() + "' lacks the layer " + name};
    }
    std::array<char, 8> magic{};
    ExtentSource source(*extent);
    LFS_ASSIGN(const std::size_t have, source.read(magic.data(), magic.size()));
    const Codec codec = codec_of_magic({magic.data(), have});
    layers.push_back({codec, Digest::of(""), std::nullopt, extent->size});
  }
  return set_config(std::move(config), std::move(layers), config_name);
}

Fallible<void> ImageSource::set_config(nlohmann::json config, std::vector<ImageLayer> layers,
                                       const std::string& shown) {
  LFS_ASSIGN(const std::vector<Digest> ids, diff_ids(config, shown));
  if (ids.size() != layers.size()) {
    return Failure{"'" + reference_.text() + "' has " + std::to_string(layers.size()) +
                   " layers, but its config names " + std::to_string(ids.size())};
  }
  for (std::size_t i = 0; i < ids.size(); ++i) {
    layers[i].diff_id = ids[i];
    if (layers[i].codec == Codec::None && !layers[i].digest) {
      layers[i].digest = ids[i];
    }
  }
  image_.config = std::move(config);
  image_.layers = std::move(layers);
  return {};
}

Fallible<std::unique_ptr<ByteSource>> ImageSource::open_layer(std::size_t index) const {
  const ImageLayer& layer = image_.layers.at(index);
  LFS_ASSIGN(auto extent, files_->find(names_.at(index)));
  if (!extent) {
    return Failure{"'" + files_->shown() + "' lacks the layer " + names_[index]};
  }
  if (extent->size != layer.size) {
    return Failure{"'" + extent->shown + "' has " + std::to_string(extent->size) + " bytes, not " +
                   std::to_string(layer.size) + " as its manifest says; fetch it again"};
  }
  const std::string shown = extent->shown;
  std::unique_ptr<ByteSource> source = std::make_unique<ExtentSource>(std::move(*extent));
  if (layer.digest) {
    source = std::make_unique<VerifiedSource>(std::move(source), *layer.digest, shown);
  }
  return source;
}

}  // namespace layerfs::oci
