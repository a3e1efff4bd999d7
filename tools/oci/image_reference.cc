#include "tools/oci/image_reference.h"

#include <array>
#include <regex>
#include <utility>

namespace layerfs::oci {
namespace {

constexpr std::array<std::pair<std::string_view, Transport>, 3> kTransports = {{
    {"oci", Transport::Oci},
    {"oci-archive", Transport::OciArchive},
    {"docker-archive", Transport::DockerArchive},
}};

}  // namespace

std::string ImageReference::text() const {
  std::string out;
  for (const auto& [word, value] : kTransports) {
    if (value == transport) {
      out = word;
    }
  }
  out += ':';
  for (const char c : path) {
    if (c == ':' || c == '\\') {
      out += '\\';
    }
    out += c;
  }
  return out + (name.empty() ? "" : ":" + name);
}

std::optional<ImageReference> parse_image_reference(std::string_view text) {
  const std::size_t cut = text.find(':');
  if (cut == std::string_view::npos) {
    return std::nullopt;
  }
  for (const auto& [word, transport] : kTransports) {
    if (word == text.substr(0, cut)) {
      return split_reference(transport, text.substr(cut + 1));
    }
  }
  return std::nullopt;
}

ImageReference split_reference(Transport transport, std::string_view text) {
  ImageReference out;
  out.transport = transport;
  std::size_t at = 0;
  for (; at < text.size() && text[at] != ':'; ++at) {
    const bool escaped =
        text[at] == '\\' && at + 1 < text.size() && (text[at + 1] == ':' || text[at + 1] == '\\');
    at += escaped ? 1 : 0;
    out.path += text[at];
  }
  if (at < text.size()) {
    out.name = text.substr(at + 1);
  }
  return out;
}

Fallible<void> check_tag(const std::string& tag) {
  // OCI image spec, annotations.md, "Back-compatibility with Label Schema": ref.name.
  static const std::regex form(
      "[A-Za-z0-9]+(([-._:@+]|--)[A-Za-z0-9]+)*"
      "(/[A-Za-z0-9]+(([-._:@+]|--)[A-Za-z0-9]+)*)*");
  if (tag.size() > 512 || !std::regex_match(tag, form)) {
    return Failure{"'" + tag + "' is no tag: letters and digits, joined by one of - . _ : @ + /"};
  }
  return {};
}

Fallible<std::string> full_docker_name(const std::string& name) {
  static const std::regex form(
      "(([A-Za-z0-9.-]+(:[0-9]+)?)/)?"
      "([a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*"
      "(/[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*)*)"
      "(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?");
  if (name.size() > 512 || !std::regex_match(name, form)) {
    return Failure{"'" + name + "' is no image name: write NAME:TAG, the name in lower case"};
  }
  std::string out = name;
  if (out.find(':', out.rfind('/') + 1) == std::string::npos) {
    out += ":latest";
  }
  const std::size_t slash = out.find('/');
  const std::string first = out.substr(0, slash);
  const bool has_host = slash != std::string::npos &&
                        (first.find_first_of(".:") != std::string::npos || first == "localhost");
  if (has_host) {
    return out;
  }
  return "docker.io/" + std::string(slash == std::string::npos ? "library/" : "") + out;
}

}  // namespace layerfs::oci
