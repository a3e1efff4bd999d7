// The names of one merged directory in bytewise order, for those who need no more than one
// at a time: however many there are, they take little memory.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "layers/directory_merge.h"
#include "layers/record_sorter.h"

namespace layerfs {

struct MergedName {
  std::string_view name;  // until the next call
  bool is_shown = false;  // else there are whiteouts only
  bool has_whiteout = false;
  LayerIndex layer = 0;       // the topmost that shows it
  unsigned char type = 0;     // DT_*
  bool exists_below = false;  // a layer further down shows it too
};

class MergedNames {
 public:
  // nullptr: the directories have more than `most` entries. Their order, and what a layer
  // hides, is as for merge_directory().
  static Result<std::unique_ptr<MergedNames>, Failure> read(const std::vector<MergeInput>& inputs,
                                                            SortSpace& space, std::uint64_t most,
                                                            std::string_view path);

  // Of all layers together: at least as many as there are names.
  std::uint64_t entry_count() const { return sorter_.count(); }
  // nullopt at the end.
  Result<std::optional<MergedName>, Failure> next();
  // From the first on again.
  void rewind() { reader_ = RecordSorter::Reader(sorter_); }
  // Lets go of buffers until the next call.
  void rest() { reader_.rest(); }

 private:
  explicit MergedNames(SortSpace& space) : sorter_(space), reader_(sorter_) {}

  RecordSorter sorter_;
  RecordSorter::Reader reader_;
  std::string name_;
};

}  // namespace layerfs
