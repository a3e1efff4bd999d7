// Of the objects with several names that a walk meets: which of their names are among the
// changes, and which are still to be told.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "layers/merged_view.h"
#include "layers/record_sorter.h"
#include "layers/spill_table.h"

namespace layerfs {

SpillKey spill_key(const LinkKey& key);
SpillKey spill_key_of_path(std::string_view path);

// In memory that does not grow with the number of names.
class LinkTally {
 public:
  // `split`: the first layer that both trees of the walk have, or how many layers there are.
  // `whole`: ChangeOptions::Links::Whole.
  LinkTally(const MergedView& now, LayerIndex split, bool whole);

  // The entry at `path` is reported as a change.
  Result<void, Failure> report(const ViewEntry& entry, std::string_view path);
  // It equals what is below.
  Result<void, Failure> skip(const ViewEntry& entry, std::string_view path);

  // At the end: calls `late` for the names to be told besides, in bytewise order of their
  // paths but for the first of each object of which none was reported. `relinked`: it is
  // told even if it equals what is below. `reported` is set if it was.
  using Late =
      std::function<Result<void, Failure>(const std::string& path, bool relinked, bool& reported)>;
  Result<void, Failure> complete(const Late& late);

 private:
  struct Count {
    std::uint32_t links = 0;
    std::uint32_t reported = 0;
    std::uint32_t skipped = 0;
    std::uint32_t first_late = 0;  // its place among the late names, from 1; 0: none
  };
  class LateNames;
  // The inode that a lower shows -> the object whose name that is.
  using Wanted = SpillTable<SpillKey>;

  bool is_indexed(const SpillKey& object) const;
  Result<void, Failure> add_late(std::string_view path, const SpillKey& object, bool found);
  Result<void, Failure> find_outstanding();
  Result<void, Failure> fill_wanted(Wanted& wanted, std::vector<bool>& layers) const;
  Result<void, Failure> scan(const Wanted& wanted, const std::vector<bool>& layers,
                             RecordSorter& found);

  const MergedView& now_;
  const LayerIndex split_;
  const bool whole_;
  SpillTable<Count> counts_;
  SpillLog reported_;  // the keys of the paths
  SortSpace late_space_;
  RecordSorter late_{late_space_};
};

}  // namespace layerfs
