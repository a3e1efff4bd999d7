#include "tools/oci/piped_source.h"

#include <algorithm>
#include <cstring>

namespace layerfs::oci {
namespace {

constexpr std::size_t kBlockBytes = 256 * 1024;
constexpr std::size_t kQueued = 4;

}  // namespace

PipedSource::PipedSource(std::unique_ptr<ByteSource> from)
    : from_(std::move(from)), pool_(kBlockBytes), blocks_(kQueued), to_hash_(kQueued) {
  reader_ = std::thread([this] {
    if (const auto filled = fill(); !filled) {
      failure_ = filled.error();
    }
    blocks_.close();
    to_hash_.close();
  });
  hasher_ = std::thread([this] {
    while (const auto block = to_hash_.pop()) {
      hash_.add((*block)->bytes());
    }
  });
}

void PipedSource::join() {
  for (std::thread* thread : {&reader_, &hasher_}) {
    if (thread->joinable()) {
      thread->join();
    }
  }
}

PipedSource::~PipedSource() {
  blocks_.abandon();
  to_hash_.abandon();
  join();
}

Fallible<void> PipedSource::fill() {
  for (;;) {
    const std::shared_ptr<Block> block = pool_.take();
    while (block->used < block->capacity) {
      LFS_ASSIGN(const std::size_t have,
                 from_->read(block->data.get() + block->used, block->capacity - block->used));
      if (have == 0) {
        break;
      }
      block->used += have;
    }
    if (block->used == 0) {
      return {};
    }
    if (!to_hash_.push(block) || !blocks_.push(block)) {
      return {};
    }
  }
}

Fallible<std::size_t> PipedSource::read(char* data, std::size_t size) {
  if (!block_ || used_ == block_->used) {
    auto next = blocks_.pop();
    if (!next) {
      join();
      return failure_ ? Fallible<std::size_t>(*failure_) : Fallible<std::size_t>(std::size_t{0});
    }
    block_ = std::move(*next);
    used_ = 0;
  }
  const std::size_t have = std::min(size, block_->used - used_);
  std::memcpy(data, block_->data.get() + used_, have);
  used_ += have;
  return have;
}

Digest PipedSource::finish() {
  join();
  return hash_.finish();
}

}  // namespace layerfs::oci
