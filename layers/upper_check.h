// What a crash, a lost work directory or other layers below leave in an upper that means
// nothing any more, or not what it should; and how it is mended.
#pragma once

#include <functional>
#include <string>

#include "layers/merged_view.h"
#include "layers/sys/result.h"

namespace layerfs {

enum class Trouble {
  // In the work directory.
  Leftover,      // what was being built; mended: removed
  VolatileMark,  // a volatile mount did not end cleanly; stays, for only the user can say
  IndexName,     // no name of an index entry; mended: removed
  IndexUnused,   // no name shows it; mended: removed
  IndexCount,    // counts more or fewer names than there are; mended: set right
  // In the upper, by its path there.
  IdleWhiteout,      // hides nothing; mended: removed
  DanglingRedirect,  // leads to no directory below; mended: opaque, which shows the same
  MissingData,       // only attributes, and the data is in no layer; stays
  LostLink,          // has names in lowers, but not the entry by which they show it; mended: made
};
const char* to_string(Trouble trouble);

struct Finding {
  Trouble trouble;
  std::string path;
  bool mended = false;
};

// The parts of an upper that nobody else uses, as they may be written.
struct CheckedUpper {
  int upper = -1;  // its root
  int work = -1;   // work/ of the work directory; -1: none
  int index = -1;  // the link index; -1: none
};

struct CheckOptions {
  bool repair = false;
  // The lowers are in the view: without them what is below is not judged.
  bool with_lowers = false;
};

// `view`: the upper as its first layer, and the index. Calls `visit` for all that is found.
// A failure to read or to mend ends the check.
Result<void, Failure> check_upper(const MergedView& view, const CheckedUpper& checked,
                                  const CheckOptions& options,
                                  const std::function<void(const Finding&)>& visit);

}  // namespace layerfs
