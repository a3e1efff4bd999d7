// Directories that a tar has entries in but, so far, none for. In memory that does not grow with
// their number.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "layers/spill_log.h"
#include "layers/spill_table.h"
#include "tools/oci/byte_sink.h"

namespace layerfs::oci {

class ImpliedDirectories {
 public:
  bool empty() const { return live_.size() == 0; }
  Fallible<void> add(std::string_view path);
  Fallible<bool> contains(std::string_view path) const;
  // false: it was none of them.
  Fallible<bool> remove(std::string_view path);
  // Those added last come first, so each before the one that it is in.
  Fallible<void> for_each(const std::function<Fallible<void>(const std::string&)>& visit) const;

 private:
  struct Nothing {};
  SpillTable<Nothing> live_{std::size_t{4} << 20U};  // by path
  SpillLog added_;  // of each, removed or not, the path and then its size
};

}  // namespace layerfs::oci
