// How the command line names an image: "oci:DIR[:TAG]", "oci-archive:FILE[:TAG]",
// "docker-archive:FILE[:NAME[:TAG]]", as skopeo does.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "tools/oci/byte_sink.h"

namespace layerfs::oci {

enum class Transport { Oci, OciArchive, DockerArchive };

struct ImageReference {
  Transport transport = Transport::Oci;
  std::string path;
  std::string name;  // the tag, or docker's name; "": none is given
  // As the command line has it.
  std::string text() const;
};

// nullopt: it begins with no transport.
std::optional<ImageReference> parse_image_reference(std::string_view text);
// What follows a transport: "PATH[:NAME]". The first ':' divides; "\:" is one in the path.
ImageReference split_reference(Transport transport, std::string_view text);

// Checks that a name can be written, with the reason if not.
Fallible<void> check_tag(const std::string& tag);
// "x" becomes "docker.io/library/x:latest". A failure: not a name that docker takes.
Fallible<std::string> full_docker_name(const std::string& name);

}  // namespace layerfs::oci
