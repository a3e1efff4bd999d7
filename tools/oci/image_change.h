// Changes of an image's config in the words of a Dockerfile, as `docker commit --change`
// takes them.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tools/oci/byte_sink.h"

namespace layerfs::oci {

// Applies instructions ("ENV A=1", "CMD [\"sh\"]", ...) in their order to `config`, the
// member "config" of an image's config. Variables ($A, ${A}, ${A:-x}, ${A:+x}) are those of
// the image. ENTRYPOINT drops an earlier CMD unless an instruction here sets one, as docker
// has it.
Fallible<void> apply_changes(nlohmann::json& config, const std::vector<std::string>& changes);

}  // namespace layerfs::oci
