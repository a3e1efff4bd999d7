#include "tools/oci/compression.h"

#include <charconv>

namespace layerfs::oci {
namespace {

struct Name {
  std::string_view text;
  Codec codec;
  int lowest;
  int highest;
};
// zstd's levels from 20 on need more memory than this program may use.
constexpr Name kNames[] = {
    {"none", Codec::None, 0, 0}, {"gzip", Codec::Gzip, 1, 9}, {"zstd", Codec::Zstd, 1, 19}};

}  // namespace

std::optional<Compression> parse_compression(std::string_view text) {
  const std::string_view word = text.substr(0, text.find(':'));
  for (const Name& name : kNames) {
    if (name.text != word) {
      continue;
    }
    Compression out{name.codec, std::nullopt};
    if (word.size() == text.size()) {
      return out;
    }
    int level = 0;
    const std::string_view number = text.substr(word.size() + 1);
    const auto [end, error] =
        std::from_chars(number.data(), number.data() + number.size(), level, 10);
    if (error != std::errc() || end != number.data() + number.size() || level < name.lowest ||
        level > name.highest || name.codec == Codec::None) {
      return std::nullopt;
    }
    out.level = level;
    return out;
  }
  return std::nullopt;
}

Codec codec_of_name(std::string_view name) {
  if (name.ends_with(".gz") || name.ends_with(".tgz")) {
    return Codec::Gzip;
  }
  return name.ends_with(".zst") || name.ends_with(".tzst") ? Codec::Zstd : Codec::None;
}

Codec codec_of_magic(std::string_view bytes) {
  if (bytes.starts_with("\x1f\x8b")) {
    return Codec::Gzip;
  }
  const bool frame = bytes.starts_with("\x28\xb5\x2f\xfd");
  const bool skippable = bytes.size() >= 4 &&
                         (static_cast<unsigned char>(bytes[0]) & 0xf0U) == 0x50U &&
                         bytes.substr(1, 3) == "\x2a\x4d\x18";
  return frame || skippable ? Codec::Zstd : Codec::None;
}

std::string layer_media_type(Codec codec) {
  std::string type = "application/vnd.oci.image.layer.v1.tar";
  if (codec != Codec::None) {
    type += codec == Codec::Gzip ? "+gzip" : "+zstd";
  }
  return type;
}

}  // namespace layerfs::oci
