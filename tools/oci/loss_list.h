// What a layer or a store cannot hold, for the user to read. In memory that does not grow with
// their number.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "layers/spill_log.h"
#include "tools/oci/byte_sink.h"

namespace layerfs::oci {

struct Loss {
  std::string path;
  std::string what;
};

class LossList {
 public:
  bool empty() const { return count_ == 0; }
  std::uint64_t size() const { return count_; }

  Fallible<void> add(std::string_view path, std::string_view what);
  // In the order they were added, until `visit` fails.
  Fallible<void> for_each(const std::function<Fallible<void>(const Loss&)>& visit) const;
  // Of a list that is not empty.
  Fallible<Loss> first() const;

 private:
  struct Sizes {
    std::uint32_t path;
    std::uint32_t what;
  };
  // `at` moves behind it.
  Fallible<Loss> read(std::uint64_t& at) const;

  SpillLog log_;  // of each its Sizes, path and text
  std::uint64_t count_ = 0;
};

}  // namespace layerfs::oci
