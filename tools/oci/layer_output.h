// A layer's tar on its way to a file: hashed, compressed and hashed again, while who makes
// it goes on.
#pragma once

#include <cstdint>
#include <memory>

#include "tools/oci/block_work.h"
#include "tools/oci/byte_sink.h"
#include "tools/oci/compression.h"
#include "tools/oci/digest.h"
#include "tools/oci/gzip_pool.h"

namespace layerfs::oci {

struct LayerInfo {
  Digest diff_id;  // of the tar
  Digest digest;   // of what was written
  std::uint64_t tar_bytes = 0;
  std::uint64_t bytes = 0;
  Codec codec = Codec::None;
};

class LayerOutput : public BlockSink {
 public:
  // `to` outlives this, and is written to by another thread until finish() returns.
  // `threads`: at least one; fewer are used where they would take too much memory. The bytes do
  // not depend on it.
  static Fallible<std::unique_ptr<LayerOutput>> create(ByteSink& to, Compression compression,
                                                       unsigned threads);
  ~LayerOutput() override;

  Fallible<Space> space() override;
  Fallible<void> filled(std::size_t size) override;
  std::uint64_t tar_bytes() const { return tar_bytes_; }

  // Everything is written to `to` when it returns.
  Fallible<LayerInfo> finish();

 private:
  class Encoder;
  class RawEncoder;
  class GzipEncoder;
  class ZstdEncoder;

  explicit LayerOutput(Codec codec);
  Fallible<void> send();
  Failure failure() const;

  Codec codec_;
  BlockPool pool_;
  std::shared_ptr<Block> block_;
  std::uint64_t tar_bytes_ = 0;
  Sha256 tar_hash_;
  std::unique_ptr<Encoder> encoder_;
  std::unique_ptr<BlockWork> work_;  // the last: it uses the others
};

}  // namespace layerfs::oci
