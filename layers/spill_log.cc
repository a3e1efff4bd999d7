#include "layers/spill_log.h"

#include <algorithm>
#include <cstring>

namespace layerfs {
namespace {

constexpr std::size_t kTailBytes = std::size_t{256} * 1024;

}  // namespace

Result<void, Failure> SpillLog::append(std::string_view bytes) {
  tail_ += bytes;
  if (tail_.size() < kTailBytes) {
    return {};
  }
  if (!file_) {
    LFS_ASSIGN(file_, sys::TemporaryFile::create());
  }
  LFS_TRY(file_->write(tail_, flushed_));
  flushed_ += tail_.size();
  tail_.clear();
  return {};
}

Result<void, Failure> SpillLog::read(std::uint64_t at, char* data, std::size_t size) const {
  const std::size_t in_file =
      at < flushed_ ? static_cast<std::size_t>(std::min<std::uint64_t>(size, flushed_ - at)) : 0;
  if (in_file > 0) {
    LFS_TRY(file_->read(data, in_file, at));
  }
  if (in_file < size) {
    std::memcpy(data + in_file, tail_.data() + (at + in_file - flushed_), size - in_file);
  }
  return {};
}

void SpillLog::cut(std::uint64_t size) {
  if (size < flushed_) {
    flushed_ = size;
    tail_.clear();
  } else if (size < this->size()) {
    tail_.resize(static_cast<std::size_t>(size - flushed_));
  }
}

}  // namespace layerfs
