// Whether two objects of two merged trees are the same, and in what they differ.
#pragma once

#include "layers/merged_view.h"

namespace layerfs {

// What differs in an object that both trees have.
struct ChangedParts {
  bool type = false;
  bool content = false;  // data, link target or device number
  bool mode = false;
  bool owner = false;
  bool xattrs = false;
  bool time = false;
  bool any() const { return type || content || mode || owner || xattrs || time; }
};

struct CompareOptions {
  // Every part is told; otherwise the costly ones (attributes, data) are looked at only
  // while nothing else differs.
  bool exact = false;
  // Both are of one stack: data at the same place in it is the same.
  bool one_stack = false;
};
Result<ChangedParts> compare_objects(ViewObject& now, ViewObject& before,
                                     const CompareOptions& options);

// Equal, or one of the two knows only the second (images do): as docker compares times.
bool is_same_time(const struct statx_timestamp& a, const struct statx_timestamp& b);

// Two looks at one file: nothing was written to it in between.
inline bool is_unchanged(const struct statx& a, const struct statx& b) {
  const auto same = [](const struct statx_timestamp& x, const struct statx_timestamp& y) {
    return x.tv_sec == y.tv_sec && x.tv_nsec == y.tv_nsec;
  };
  return a.stx_size == b.stx_size && same(a.stx_mtime, b.stx_mtime) &&
         same(a.stx_ctime, b.stx_ctime);
}

}  // namespace layerfs
