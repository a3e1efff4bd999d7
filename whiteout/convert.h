// The marks of a layer in another form.
#pragma once

#include <cstddef>

#include "whiteout/marks.h"

namespace layerfs {

// Turns the whiteouts in one directory, and the directory's own opaque mark, into those that
// `writer` makes; at every instant one form or both hide what is hidden. `dir`: readable.
// The directory keeps its times. Returns how many marks were changed.
Result<std::size_t> convert_directory_marks(int dir, const MarkWriter& writer);

}  // namespace layerfs
