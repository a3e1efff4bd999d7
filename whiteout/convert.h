// The marks of a layer in another form.
#pragma once

#include <cstddef>

#include "whiteout/marks.h"

namespace layerfs {

// What is being made in a layer has this name, and one that was killed leaves it. Readers
// ignore it, as a name of aufs.
inline constexpr const char* kConvertTemporary = ".wh..wh.layerfs-convert";
// In the root of a layer: what is to be mended if it is killed. Readers ignore this name too.
inline constexpr const char* kConvertJournal = ".wh..wh.layerfs-times";

// Turns the whiteouts in one directory, and the directory's own opaque mark, into those that
// `writer` makes; at every instant one form or both hide what is hidden, and another call
// completes what one that was killed began. `dir`: readable. The directory keeps its times. Returns
// how many marks were changed.
Result<std::size_t> convert_directory_marks(int dir, const MarkWriter& writer);

}  // namespace layerfs
