// Bytes one after the other, in memory while they are few, else in a temporary file.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "layers/sys/temporary_file.h"

namespace layerfs {

class SpillLog {
 public:
  std::uint64_t size() const { return flushed_ + tail_.size(); }
  Result<void, Failure> append(std::string_view bytes);
  // `at` + `size` is at most size().
  Result<void, Failure> read(std::uint64_t at, char* data, std::size_t size) const;
  // Forgets what is from `size` on, if there is anything; its room is used again.
  void cut(std::uint64_t size);

 private:
  std::optional<sys::TemporaryFile> file_;
  std::uint64_t flushed_ = 0;  // bytes in the file
  std::string tail_;           // those after them
};

}  // namespace layerfs
