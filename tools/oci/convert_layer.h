// A layer's whiteouts in another form, in place.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "tools/oci/byte_sink.h"
#include "whiteout/marks.h"

namespace layerfs::oci {

struct Converted {
  std::uint64_t directories = 0;  // looked at
  std::uint64_t marks = 0;        // changed
};

// Nobody may use the layer meanwhile; one that a mount writes to is refused. Interrupted by
// an error of `poll`, it is a layer of mixed forms, which means the same, and can be
// converted again. Redirects and metadata-only copies have no form in OCI layers: a layer
// with one is refused before anything is changed.
Fallible<Converted> convert_layer(const std::string& path, WhiteoutForm form,
                                  const std::function<Fallible<void>()>& poll);

}  // namespace layerfs::oci
