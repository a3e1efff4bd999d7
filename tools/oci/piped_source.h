// A source that is read ahead by a thread of its own, and hashed by another.
#pragma once

#include <memory>
#include <optional>
#include <thread>

#include "tools/oci/block_pool.h"
#include "tools/oci/byte_source.h"
#include "tools/oci/channel.h"

namespace layerfs::oci {

class PipedSource : public ByteSource {
 public:
  explicit PipedSource(std::unique_ptr<ByteSource> from);
  ~PipedSource() override;

  Fallible<std::size_t> read(char* data, std::size_t size) override;
  // Of all that was read; once, after the end.
  Digest finish();

 private:
  Fallible<void> fill();
  void join();

  std::unique_ptr<ByteSource> from_;
  BlockPool pool_;
  Channel<SharedBlock> blocks_;
  Channel<SharedBlock> to_hash_;
  Sha256 hash_;
  std::optional<Failure> failure_;  // set before the channel is closed
  SharedBlock block_;
  std::size_t used_ = 0;
  std::thread reader_;
  std::thread hasher_;
};

}  // namespace layerfs::oci
