// What an open directory handle must list: each entry that is there all the time exactly
// once, none that never was.
#pragma once

#include <array>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "tests/model/compare.h"
#include "tests/model/op.h"
#include "tests/model/side.h"

namespace layerfs::model {

class DirWatch {
 public:
  // A pass over the directory begins. `oracle_fd`: the oracle's handle.
  void begin(int oracle_fd);
  void end() { active_ = false; }
  // Names of the directory may have changed; those of `op` are not judged any more.
  void changed(int oracle_fd, const Op& op);
  // Entries as the mount listed them, empty at the end.
  Verdict read(const std::vector<ListedName>& entries);

 private:
  static std::set<std::string> names(int oracle_fd);

  bool active_ = false;
  std::set<std::string> stable_;
  std::set<std::string> ever_;
  std::map<std::string, int> seen_;
};

}  // namespace layerfs::model
