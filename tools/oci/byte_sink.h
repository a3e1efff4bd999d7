// Where a stream of bytes goes.
#pragma once

#include <cstddef>
#include <string_view>

#include "layers/sys/result.h"

namespace layerfs::oci {

template <class T>
using Fallible = Result<T, Failure>;

class ByteSink {
 public:
  ByteSink() = default;
  ByteSink(const ByteSink&) = delete;
  ByteSink& operator=(const ByteSink&) = delete;
  virtual ~ByteSink() = default;

  virtual Fallible<void> write(std::string_view bytes) = 0;
};

// Space to fill in place, for those who read much data into it.
class BlockSink : public ByteSink {
 public:
  struct Space {
    char* data;
    std::size_t size;
  };
  // At least one byte, until the next call; `size` of Space is what is free.
  virtual Fallible<Space> space() = 0;
  // The first `size` bytes of the space have been filled.
  virtual Fallible<void> filled(std::size_t size) = 0;

  Fallible<void> write(std::string_view bytes) override;
  Fallible<void> write_zeros(std::size_t size);
};

}  // namespace layerfs::oci
