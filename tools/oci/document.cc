#include "tools/oci/document.h"

namespace layerfs::oci {
namespace {

// Copying and printing a document recurse.
constexpr int kMostDepth = 100;

}  // namespace

Failure not_as_specified(const std::string& shown, const std::string& why) {
  return {"'" + shown + "' is not as the OCI image spec has it: " + why};
}

Fallible<nlohmann::json> parse_document(std::string_view text, const std::string& shown) {
  bool too_deep = false;
  const auto keep = [&too_deep](int depth, nlohmann::json::parse_event_t /*event*/,
                                const nlohmann::json& /*parsed*/) {
    too_deep = too_deep || depth > kMostDepth;
    return !too_deep;
  };
  auto document = nlohmann::json::parse(text, keep, false);
  if (too_deep) {
    return Failure{"'" + shown + "' has values nested more than " + std::to_string(kMostDepth) +
                   " deep"};
  }
  if (document.is_discarded() || !document.is_structured()) {
    return Failure{"'" + shown + "' is no JSON document"};
  }
  return document;
}

std::string print_document(const nlohmann::json& document) {
  return document.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace layerfs::oci
