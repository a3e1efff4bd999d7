// Images as documents: what an index, a manifest and a config say (OCI image spec 1.1; the
// documents of docker's archives).
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/oci/byte_sink.h"
#include "tools/oci/compression.h"
#include "tools/oci/digest.h"

namespace layerfs::oci {

inline constexpr const char* kManifestType = "application/vnd.oci.image.manifest.v1+json";
inline constexpr const char* kIndexType = "application/vnd.oci.image.index.v1+json";
inline constexpr const char* kConfigType = "application/vnd.oci.image.config.v1+json";
inline constexpr const char* kRefNameKey = "org.opencontainers.image.ref.name";
// By which containerd knows an image, tag included.
inline constexpr const char* kContainerdNameKey = "io.containerd.image.name";

struct Descriptor {
  std::string media_type;
  Digest digest;
  std::uint64_t size = 0;
};
nlohmann::json to_json(const Descriptor& descriptor);
Fallible<Descriptor> parse_descriptor(const nlohmann::json& document, const std::string& shown);

struct ImageLayer {
  Codec codec = Codec::None;
  Digest diff_id;
  // Of the blob; nullopt: where the image is does not say (docker-archive).
  std::optional<Digest> digest;
  std::uint64_t size = 0;
};

struct Image {
  nlohmann::json config;           // fields that nobody here knows are kept
  std::vector<ImageLayer> layers;  // the bottom one first
  std::optional<Digest> manifest;  // its own digest, where it has one
};

struct Manifest {
  Descriptor config;
  std::vector<Descriptor> layers;
};
// A document that is a manifest and an index at once is refused.
Fallible<Manifest> parse_manifest(const nlohmann::json& document, const std::string& shown);
// Of an index, the manifest for this machine; `platform`: "linux/amd64", for the message.
Fallible<Descriptor> choose_by_platform(const nlohmann::json& index, const std::string& shown);

// The diff ids that a config lists.
Fallible<std::vector<Digest>> diff_ids(const nlohmann::json& config, const std::string& shown);
// Of a layer's media type, docker's included; a failure for what is no tar layer.
Fallible<Codec> codec_of_media_type(const std::string& type, const std::string& shown);

// As Go names this machine's architecture: "amd64".
std::string machine_architecture();

// "2001-09-09T01:46:40Z".
std::string format_time(std::int64_t seconds);

}  // namespace layerfs::oci
