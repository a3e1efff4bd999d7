// Buffers of one size that threads hand on to each other and use again: a fresh one would
// cost a page fault for each of its pages.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <string_view>
#include <vector>

namespace layerfs::oci {

struct Block {
  explicit Block(std::size_t size)
      : data(std::make_unique_for_overwrite<char[]>(size)), capacity(size) {}
  std::unique_ptr<char[]> data;
  std::size_t capacity;
  std::size_t used = 0;
  std::string_view bytes() const { return {data.get(), used}; }
};
using SharedBlock = std::shared_ptr<const Block>;

// Blocks come back when their last user lets go; the pool may be gone by then.
class BlockPool {
 public:
  explicit BlockPool(std::size_t block_bytes)
      : free_(std::make_shared<Free>()), bytes_(block_bytes) {}

  std::shared_ptr<Block> take() {
    std::unique_ptr<Block> block;
    {
      const std::lock_guard lock(free_->mutex);
      if (!free_->blocks.empty()) {
        block = std::move(free_->blocks.back());
        free_->blocks.pop_back();
      }
    }
    if (!block) {
      block = std::make_unique<Block>(bytes_);
    }
    block->used = 0;
    return {block.release(), [free = free_](Block* used) {
              std::unique_ptr<Block> back(used);
              const std::lock_guard lock(free->mutex);
              free->blocks.push_back(std::move(back));
            }};
  }

 private:
  struct Free {
    std::mutex mutex;
    std::vector<std::unique_ptr<Block>> blocks;
  };
  std::shared_ptr<Free> free_;
  std::size_t bytes_;
};

}  // namespace layerfs::oci
