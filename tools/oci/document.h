// JSON documents of images. nlohmann::json throws when a document is not as expected;
// here that becomes a Failure.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>

#include "tools/oci/byte_sink.h"

namespace layerfs::oci {

// Far above any real manifest, index or config.
inline constexpr std::size_t kMostDocumentBytes = 8 << 20;

// An object or an array; `shown`: for messages.
Fallible<nlohmann::json> parse_document(std::string_view text, const std::string& shown);
// The same bytes for the same document: keys in order, no spaces.
std::string print_document(const nlohmann::json& document);

Failure not_as_specified(const std::string& shown, const std::string& why);

// What `read` returns; `read` may use all accessors that throw.
template <class F>
auto read_document(const std::string& shown, F read) -> decltype(read()) {
  try {
    return read();
  } catch (const nlohmann::json::exception& error) {
    return not_as_specified(shown, error.what());
  }
}

}  // namespace layerfs::oci
