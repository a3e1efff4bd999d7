// A tar that is put aside on disk, for those who must be done with reading soon.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "layers/sys/temporary_file.h"
#include "tools/oci/byte_sink.h"

namespace layerfs::oci {

// In a file without a name in $TMPDIR, or /var/tmp. Zeros take no room.
class Spool : public BlockSink {
 public:
  static Fallible<std::unique_ptr<Spool>> create();

  Fallible<Space> space() override;
  Fallible<void> filled(std::size_t size) override;
  // After the last: all of it to `to`. `progress` is called now and then.
  Fallible<void> copy_to(BlockSink& to, const std::function<Fallible<void>()>& progress);

 private:
  explicit Spool(sys::TemporaryFile file);
  Fallible<void> flush();

  sys::TemporaryFile file_;
  std::unique_ptr<char[]> block_;
  std::size_t used_ = 0;
  std::uint64_t size_ = 0;  // what is in the file
};

}  // namespace layerfs::oci
