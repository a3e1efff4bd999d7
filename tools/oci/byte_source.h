// Where a stream of bytes comes from.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "layers/sys/unique_fd.h"
#include "tools/oci/byte_sink.h"
#include "tools/oci/digest.h"

namespace layerfs::oci {

class ByteSource {
 public:
  ByteSource() = default;
  ByteSource(const ByteSource&) = delete;
  ByteSource& operator=(const ByteSource&) = delete;
  virtual ~ByteSource() = default;

  // At least one byte, or 0 at the end.
  virtual Fallible<std::size_t> read(char* data, std::size_t size) = 0;
};

// A part of an open file.
struct Extent {
  SharedFd fd;
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
  std::string shown;  // for messages
};

class ExtentSource : public ByteSource {
 public:
  explicit ExtentSource(Extent extent) : extent_(std::move(extent)) {}
  // A file that ends before the extent does is a failure.
  Fallible<std::size_t> read(char* data, std::size_t size) override;

 private:
  Extent extent_;
  std::uint64_t at_ = 0;
};

// Hands on what another has, and at its end fails unless it was what the digest names: so
// whoever reads to the end has read nothing else.
class VerifiedSource : public ByteSource {
 public:
  VerifiedSource(std::unique_ptr<ByteSource> from, Digest expected, std::string shown)
      : from_(std::move(from)), expected_(std::move(expected)), shown_(std::move(shown)) {}
  Fallible<std::size_t> read(char* data, std::size_t size) override;

 private:
  std::unique_ptr<ByteSource> from_;
  Digest expected_;
  std::string shown_;
  Sha256 hash_;
  bool ended_ = false;
};

// All of it; more than `most` bytes is a failure.
Fallible<std::string> read_all(ByteSource& from, std::size_t most, const std::string& shown);

}  // namespace layerfs::oci
