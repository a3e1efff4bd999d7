#include "tools/oci/spool.h"

#include <algorithm>

#include "tools/oci/zeros.h"

namespace layerfs::oci {
namespace {

constexpr std::size_t kBlockBytes = 1U << 20U;

}  // namespace

Spool::Spool(sys::TemporaryFile file)
    : file_(std::move(file)), block_(std::make_unique_for_overwrite<char[]>(kBlockBytes)) {}

Fallible<std::unique_ptr<Spool>> Spool::create() {
  LFS_ASSIGN(sys::TemporaryFile file, sys::TemporaryFile::create());
  return std::unique_ptr<Spool>(new Spool(std::move(file)));
}

Fallible<BlockSink::Space> Spool::space() {
  return Space{block_.get() + used_, kBlockBytes - used_};
}

Fallible<void> Spool::filled(std::size_t size) {
  used_ += size;
  return used_ == kBlockBytes ? flush() : Fallible<void>();
}

Fallible<void> Spool::flush() {
  const std::string_view bytes(block_.get(), used_);
  if (!is_zero(bytes)) {
    LFS_TRY(file_.write(bytes, size_));
  }
  size_ += used_;
  used_ = 0;
  return {};
}

Fallible<void> Spool::copy_to(BlockSink& to, const std::function<Fallible<void>()>& progress) {
  LFS_TRY(flush());
  LFS_TRY(file_.resize(size_));
  for (std::uint64_t offset = 0; offset < size_;) {
    LFS_ASSIGN(const Space space, to.space());
    const auto want = static_cast<std::size_t>(std::min<std::uint64_t>(space.size, size_ - offset));
    LFS_TRY(file_.read(space.data, want, offset));
    LFS_TRY(to.filled(want));
    LFS_TRY(progress());
    offset += want;
  }
  return {};
}

}  // namespace layerfs::oci
