#include "tools/oci/document.h"

namespace layerfs::oci {

Failure not_as_specified(const std::string& shown, const std::string& why) {
  return {"'" + shown + "' is not as the OCI image spec has it: " + why};
}

Fallible<nlohmann::json> parse_document(std::string_view text, const std::string& shown) {
  auto document = nlohmann::json::parse(text, nullptr, false);
  if (document.is_discarded() || !document.is_structured()) {
    return Failure{"'" + shown + "' is no JSON document"};
  }
  return document;
}

std::string print_document(const nlohmann::json& document) {
  return document.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace layerfs::oci
