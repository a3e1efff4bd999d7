// Failures of the libraries as the commands' problems.
#pragma once

#include <utility>

#include "tools/common/problem.h"
#include "tools/oci/byte_sink.h"

namespace layerfs {

template <class T>
Outcome<T> to_outcome(oci::Fallible<T> result) {
  if (!result) {
    return failed(result.error().message);
  }
  if constexpr (std::is_void_v<T>) {
    return {};
  } else {
    return std::move(result).value();
  }
}

}  // namespace layerfs
