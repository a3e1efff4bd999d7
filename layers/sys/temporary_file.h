// A file without a name, for what does not fit in memory.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "layers/sys/result.h"
#include "layers/sys/unique_fd.h"

namespace layerfs::sys {

// In $TMPDIR, or /var/tmp; gone with its descriptor. What was not written is zeros.
class TemporaryFile {
 public:
  static Result<TemporaryFile, Failure> create();

  Result<void, Failure> write(std::string_view bytes, std::uint64_t offset);
  // All `size` bytes; a file that ends before is a failure.
  Result<void, Failure> read(char* data, std::size_t size, std::uint64_t offset) const;
  Result<void, Failure> resize(std::uint64_t size);

 private:
  TemporaryFile(UniqueFd fd, std::string dir) : fd_(std::move(fd)), dir_(std::move(dir)) {}
  Failure failure(Errno error) const;

  UniqueFd fd_;
  std::string dir_;
};

}  // namespace layerfs::sys
