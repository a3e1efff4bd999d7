#include "layers/directory_listing.h"

#include <dirent.h>
#include <xxhash.h>

#include <algorithm>
#include <iterator>
#include <new>

namespace layerfs {
namespace {

constexpr std::size_t kMaxBlockEntries = 256;
// Below this a block joins a neighbour, if the two leave room for insertions.
constexpr std::size_t kMinBlockEntries = kMaxBlockEntries / 4;
constexpr std::size_t kMaxJoinedEntries = kMaxBlockEntries * 3 / 4;
// Small blocks double, larger ones grow by this: a listing of many blocks must not be
// mostly spare room.
constexpr std::size_t kBlockStep = 32;

constexpr std::size_t kMinChunkBytes = 128;
constexpr std::size_t kMaxChunkBytes = 64 * 1024;
// Names of erased entries are kept until they outweigh the others and this.
constexpr std::size_t kMaxDeadNameBytes = 4096;

// Odd, with its bits well spread: the choices' seeds have little in common, so that
// names made to collide under one do not collide under the next.
constexpr std::uint64_t kSeedStep = 0x9e3779b97f4a7c15;

std::size_t grown_capacity(std::size_t size) {
  const std::size_t wanted =
      size < kBlockStep ? std::max<std::size_t>(2 * size, 4) : size + kBlockStep;
  return std::min(wanted, kMaxBlockEntries);
}

}  // namespace

std::uint64_t DirectoryListing::default_hash(std::string_view name, std::uint64_t choice) {
  // The first choice is XXH3_64bits: its seed is 0.
  return XXH3_64bits_withSeed(name.data(), name.size(), choice * kSeedStep);
}

std::uint64_t DirectoryListing::cookie_of(std::string_view name, std::uint64_t choice) const {
  const std::uint64_t cookie = hash_(name, choice) & kLastCookie;
  return cookie < kFirstCookie ? cookie + kFirstCookie : cookie;
}

DirectoryListing::Position DirectoryListing::lower_bound(std::uint64_t cookie) const {
  const auto above = std::ranges::upper_bound(blocks_, cookie, {}, &Block::first);
  if (above == blocks_.begin()) {
    return {0, 0};
  }
  const auto block = std::prev(above);
  const auto found = std::ranges::lower_bound(block->entries, cookie, {}, &Entry::cookie);
  if (found == block->entries.end()) {
    return {static_cast<std::size_t>(above - blocks_.begin()), 0};
  }
  return {static_cast<std::size_t>(block - blocks_.begin()),
          static_cast<std::size_t>(found - block->entries.begin())};
}

const DirectoryListing::Entry* DirectoryListing::at(Position position) const {
  return position.block < blocks_.size() ? &blocks_[position.block].entries[position.index]
                                         : nullptr;
}

DirectoryListing::Entry* DirectoryListing::at(Position position) {
  return const_cast<Entry*>(std::as_const(*this).at(position));
}

DirectoryListing::Position DirectoryListing::locate(std::string_view name) const {
  for (std::uint64_t choice = 0; choice <= last_choice_; ++choice) {
    const std::uint64_t cookie = cookie_of(name, choice);
    const Position position = lower_bound(cookie);
    const Entry* entry = at(position);
    if (entry != nullptr && entry->cookie == cookie && entry->name == name) {
      return position;
    }
  }
  return {blocks_.size(), 0};
}

const DirectoryListing::Entry* DirectoryListing::find(std::string_view name) const {
  return at(locate(name));
}

void DirectoryListing::change(Entry& entry, unsigned char type, std::uint16_t layer,
                              std::uint8_t flags) {
  directories_ += (type == DT_DIR ? 1U : 0U);
  directories_ -= (entry.type == DT_DIR ? 1U : 0U);
  entry.type = type;
  entry.layer = layer;
  entry.flags = flags;
}

bool DirectoryListing::set(std::string_view name, unsigned char type, std::uint16_t layer,
                           std::uint8_t flags) {
  Entry* entry = at(locate(name));
  if (entry == nullptr) {
    return false;
  }
  change(*entry, type, layer, flags);
  return true;
}

void DirectoryListing::insert(std::string_view name, unsigned char type, std::uint16_t layer,
                              std::uint8_t flags) {
  if (set(name, type, layer, flags)) {
    return;
  }
  for (std::uint64_t choice = 0;; ++choice) {
    const std::uint64_t cookie = cookie_of(name, choice);
    const Entry* holder = at(lower_bound(cookie));
    if (holder == nullptr || holder->cookie != cookie) {
      add(Entry{cookie, store_name(name), layer, type, flags});
      last_choice_ = std::max(last_choice_, choice);
      return;
    }
  }
}

void DirectoryListing::add(const Entry& entry) {
  if (blocks_.empty()) {
    std::vector<Entry> entries;
    entries.reserve(grown_capacity(0));
    blocks_.push_back({entry.cookie, std::move(entries)});
    capacity_entries_ += blocks_.front().entries.capacity();
  }
  const auto block_of = [&] {
    const auto above = std::ranges::upper_bound(blocks_, entry.cookie, {}, &Block::first);
    return above == blocks_.begin() ? above : std::prev(above);
  };
  auto block = block_of();
  if (block->entries.size() == kMaxBlockEntries) {
    split(static_cast<std::size_t>(block - blocks_.begin()));
    block = block_of();
  }
  std::vector<Entry>& entries = block->entries;
  if (entries.size() == entries.capacity()) {
    set_capacity(entries, grown_capacity(entries.size()));
  }
  entries.insert(std::ranges::lower_bound(entries, entry.cookie, {}, &Entry::cookie), entry);
  block->first = entries.front().cookie;
  ++size_;
  directories_ += (entry.type == DT_DIR ? 1U : 0U);
}

void DirectoryListing::set_capacity(std::vector<Entry>& entries, std::size_t capacity) {
  std::vector<Entry> moved;
  moved.reserve(capacity);
  moved.assign(entries.begin(), entries.end());
  capacity_entries_ += moved.capacity() - entries.capacity();
  entries = std::move(moved);
}

// Moves the upper half of the block to a new one behind it. Whatever allocation fails,
// every entry is there once.
void DirectoryListing::split(std::size_t block) {
  const std::vector<Entry>& whole = blocks_[block].entries;
  const std::size_t kept = whole.size() / 2;
  std::vector<Entry> upper;
  upper.reserve(grown_capacity(whole.size() - kept));
  upper.assign(whole.begin() + static_cast<std::ptrdiff_t>(kept), whole.end());
  const std::uint64_t first = upper.front().cookie;
  const std::size_t capacity = upper.capacity();
  blocks_.insert(blocks_.begin() + static_cast<std::ptrdiff_t>(block) + 1,
                 Block{first, std::move(upper)});
  capacity_entries_ += capacity;
  std::vector<Entry>& lower = blocks_[block].entries;
  lower.erase(lower.begin() + static_cast<std::ptrdiff_t>(kept), lower.end());
  set_capacity(lower, grown_capacity(kept));
}

// After a removal from the block: gives room back that entries have left.
void DirectoryListing::shrink(std::size_t block) {
  const auto remove_block = [this](std::size_t index) {
    capacity_entries_ -= blocks_[index].entries.capacity();
    blocks_.erase(blocks_.begin() + static_cast<std::ptrdiff_t>(index));
    if (blocks_.capacity() > 4 * blocks_.size() + kBlockStep) {
      blocks_.shrink_to_fit();
    }
  };
  std::vector<Entry>& entries = blocks_[block].entries;
  if (entries.empty()) {
    remove_block(block);
    return;
  }
  blocks_[block].first = entries.front().cookie;
  if (entries.size() < kMinBlockEntries && blocks_.size() > 1) {
    const std::size_t left = block > 0 ? block - 1 : 0;
    std::vector<Entry>& to = blocks_[left].entries;
    const std::vector<Entry>& from = blocks_[left + 1].entries;
    const std::size_t joined = to.size() + from.size();
    if (joined <= kMaxJoinedEntries) {
      if (joined > to.capacity()) {
        set_capacity(to, grown_capacity(joined));
      }
      to.insert(to.end(), from.begin(), from.end());
      remove_block(left + 1);
      return;
    }
  }
  if (entries.capacity() > entries.size() + 2 * kBlockStep) {
    set_capacity(entries, entries.size() + kBlockStep / 2);
  }
}

bool DirectoryListing::erase(std::string_view name) {
  const Position position = locate(name);
  if (at(position) == nullptr) {
    return false;
  }
  std::vector<Entry>& entries = blocks_[position.block].entries;
  const auto entry = entries.begin() + static_cast<std::ptrdiff_t>(position.index);
  directories_ -= (entry->type == DT_DIR ? 1U : 0U);
  live_name_bytes_ -= entry->name.size();
  dead_name_bytes_ += entry->name.size();
  --size_;
  entries.erase(entry);
  try {
    shrink(position.block);
  } catch (const std::bad_alloc&) {
    // The entry is gone all the same; only the room it left is kept.
  }
  if (dead_name_bytes_ > std::max(live_name_bytes_, kMaxDeadNameBytes)) {
    compact_names();
  }
  return true;
}

std::string_view DirectoryListing::store_name(std::string_view name) {
  if (chunks_.empty() || chunks_.back().capacity - chunk_used_ < name.size()) {
    const std::size_t wanted = std::clamp(names_capacity_ / 2, kMinChunkBytes, kMaxChunkBytes);
    const std::size_t capacity = std::max(wanted, name.size());
    chunks_.push_back({std::make_unique_for_overwrite<char[]>(capacity), capacity});
    names_capacity_ += capacity;
    chunk_used_ = 0;
  }
  char* stored = chunks_.back().bytes.get() + chunk_used_;
  std::ranges::copy(name, stored);
  chunk_used_ += name.size();
  live_name_bytes_ += name.size();
  return {stored, name.size()};
}

// Only saves memory, so a lack of it is no error.
void DirectoryListing::compact_names() {
  const std::size_t capacity = std::max(live_name_bytes_, kMinChunkBytes);
  std::vector<Chunk> chunks(1);
  chunks.front() = {std::unique_ptr<char[]>(new (std::nothrow) char[capacity]), capacity};
  if (chunks.front().bytes == nullptr) {
    return;
  }
  std::swap(chunks, chunks_);  // the old ones live until the names are copied
  names_capacity_ = capacity;
  chunk_used_ = live_name_bytes_ = dead_name_bytes_ = 0;
  for (Block& block : blocks_) {
    for (Entry& entry : block.entries) {
      entry.name = store_name(entry.name);
    }
  }
}

std::size_t DirectoryListing::bytes() const {
  return blocks_.capacity() * sizeof(Block) + capacity_entries_ * sizeof(Entry) +
         chunks_.capacity() * sizeof(Chunk) + names_capacity_;
}

void DirectoryListing::swap(DirectoryListing& other) noexcept {
  std::swap(blocks_, other.blocks_);
  std::swap(chunks_, other.chunks_);
  std::swap(chunk_used_, other.chunk_used_);
  std::swap(names_capacity_, other.names_capacity_);
  std::swap(live_name_bytes_, other.live_name_bytes_);
  std::swap(dead_name_bytes_, other.dead_name_bytes_);
  std::swap(size_, other.size_);
  std::swap(directories_, other.directories_);
  std::swap(capacity_entries_, other.capacity_entries_);
  std::swap(last_choice_, other.last_choice_);
  std::swap(hash_, other.hash_);
}

}  // namespace layerfs
