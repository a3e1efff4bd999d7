#include "tools/oci/image.h"

#include <sys/utsname.h>

#include <array>
#include <cstdio>
#include <ctime>

#include "tools/oci/document.h"

namespace layerfs::oci {
namespace {

constexpr std::array<std::pair<std::string_view, Codec>, 10> kLayerTypes = {{
    {"application/vnd.oci.image.layer.v1.tar", Codec::None},
    {"application/vnd.oci.image.layer.v1.tar+gzip", Codec::Gzip},
    {"application/vnd.oci.image.layer.v1.tar+zstd", Codec::Zstd},
    {"application/vnd.oci.image.layer.nondistributable.v1.tar", Codec::None},
    {"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", Codec::Gzip},
    {"application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", Codec::Zstd},
    {"application/vnd.docker.image.rootfs.diff.tar", Codec::None},
    {"application/vnd.docker.image.rootfs.diff.tar.gzip", Codec::Gzip},
    {"application/vnd.docker.image.rootfs.diff.tar.zstd", Codec::Zstd},
    {"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Codec::Gzip},
}};

constexpr std::array<std::pair<std::string_view, std::string_view>, 6> kMachines = {{
    {"x86_64", "amd64"},
    {"aarch64", "arm64"},
    {"armv7l", "arm"},
    {"i686", "386"},
    {"ppc64", "ppc64"},
    {"loongarch64", "loong64"},
}};

// More than any filesystem can stack.
constexpr std::size_t kMostLayers = 4096;

}  // namespace

nlohmann::json to_json(const Descriptor& descriptor) {
  return {{"mediaType", descriptor.media_type},
          {"digest", descriptor.digest.text()},
          {"size", descriptor.size}};
}

Fallible<Descriptor> parse_descriptor(const nlohmann::json& document, const std::string& shown) {
  return read_document(shown, [&]() -> Fallible<Descriptor> {
    const auto text = document.at("digest").get<std::string>();
    const auto digest = Digest::parse(text);
    if (!digest) {
      return not_as_specified(shown, "'" + text + "' is no sha256 digest");
    }
    return Descriptor{document.value("mediaType", std::string()), *digest,
                      document.at("size").get<std::uint64_t>()};
  });
}

Fallible<Manifest> parse_manifest(const nlohmann::json& document, const std::string& shown) {
  return read_document(shown, [&]() -> Fallible<Manifest> {
    if (document.contains("manifests")) {
      return not_as_specified(shown, "it is a manifest and an index at once");
    }
    LFS_ASSIGN(Descriptor config, parse_descriptor(document.at("config"), shown));
    Manifest manifest{std::move(config), {}};
    const nlohmann::json& layers = document.at("layers");
    if (layers.size() > kMostLayers) {
      return not_as_specified(shown, "it has " + std::to_string(layers.size()) + " layers");
    }
    for (const nlohmann::json& layer : layers) {
      LFS_ASSIGN(Descriptor descriptor, parse_descriptor(layer, shown));
      manifest.layers.push_back(std::move(descriptor));
    }
    return manifest;
  });
}

Fallible<Descriptor> choose_by_platform(const nlohmann::json& index, const std::string& shown) {
  return read_document(shown, [&]() -> Fallible<Descriptor> {
    if (index.contains("layers") || index.contains("config")) {
      return not_as_specified(shown, "it is a manifest and an index at once");
    }
    const nlohmann::json& manifests = index.at("manifests");
    for (const nlohmann::json& item : manifests) {
      const auto platform = item.value("platform", nlohmann::json::object());
      const bool fits = platform.value("os", std::string()) == "linux" &&
                        platform.value("architecture", std::string()) == machine_architecture();
      if (fits || (manifests.size() == 1 && platform.empty())) {
        return parse_descriptor(item, shown);
      }
    }
    return Failure{"'" + shown + "' has no image for linux/" + machine_architecture()};
  });
}

Fallible<std::vector<Digest>> diff_ids(const nlohmann::json& config, const std::string& shown) {
  return read_document(shown, [&]() -> Fallible<std::vector<Digest>> {
    std::vector<Digest> out;
    for (const nlohmann::json& item : config.at("rootfs").at("diff_ids")) {
      const auto digest = Digest::parse(item.get<std::string>());
      if (!digest) {
        return not_as_specified(shown, "'" + item.get<std::string>() + "' is no sha256 digest");
      }
      out.push_back(*digest);
    }
    return out;
  });
}

Fallible<Codec> codec_of_media_type(const std::string& type, const std::string& shown) {
  for (const auto& [name, codec] : kLayerTypes) {
    if (name == type) {
      return codec;
    }
  }
  return Failure{"'" + shown + "' has a layer of the type '" + type + "', which is no known layer"};
}

std::string machine_architecture() {
  struct utsname system {};
  if (::uname(&system) != 0) {
    return "unknown";
  }
  const std::string_view machine = system.machine;
  for (const auto& [linux_name, go_name] : kMachines) {
    if (linux_name == machine) {
      return std::string(go_name);
    }
  }
  return std::string(machine);
}

std::string format_time(std::int64_t seconds) {
  const time_t time = seconds;
  struct tm parts {};
  std::array<char, 64> text{};
  if (::gmtime_r(&time, &parts) == nullptr || parts.tm_year > 9999 - 1900) {
    return "1970-01-01T00:00:00Z";
  }
  std::snprintf(text.data(), text.size(), "%04d-%02d-%02dT%02d:%02d:%02dZ", parts.tm_year + 1900,
                parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec);
  return text.data();
}

}  // namespace layerfs::oci
