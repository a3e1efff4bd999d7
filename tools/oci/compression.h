// How a layer is compressed.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace layerfs::oci {

enum class Codec { None, Gzip, Zstd };

struct Compression {
  Codec codec = Codec::Gzip;
  std::optional<int> level;  // nullopt: the codec's usual one
};

// Of libdeflate: about as small as gzip -5 makes it, in a third of the time.
inline constexpr int kGzipLevel = 3;
inline constexpr int kZstdLevel = 3;

// "gzip", "zstd:19", "none"; nullopt: not understood, or a level that the codec has not.
std::optional<Compression> parse_compression(std::string_view text);
// Of a file name: ".gz", ".tgz", ".zst", ".tzst"; none for others.
Codec codec_of_name(std::string_view name);
// Of the first bytes of a stream (RFC 1952; RFC 8878, frames and skippable frames).
Codec codec_of_magic(std::string_view bytes);
// "application/vnd.oci.image.layer.v1.tar", with "+gzip" or "+zstd".
std::string layer_media_type(Codec codec);

}  // namespace layerfs::oci
