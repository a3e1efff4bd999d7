// The merged names of one directory, in memory, in an order that readdir can leave
// and come back to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

namespace layerfs {

// Entries in the order of their cookies. A cookie is a hash of the name, so that it
// does not depend on what else the directory holds: insertion, removal and a rebuild
// leave every other entry's cookie, hence every reader's position, as they were. Only
// if two names have the same hash (about one chance in 300 for 10^6 names) does the
// cookie of the one inserted later depend on the other.
//
// No locks: the caller serialises. Pointers to entries and their names are valid until
// the next call that is not const.
class DirectoryListing {
 public:
  // Cookies of "." and "..", which a listing does not contain.
  static constexpr std::uint64_t kDotCookie = 1;
  static constexpr std::uint64_t kDotDotCookie = 2;
  static constexpr std::uint64_t kFirstCookie = 3;
  static constexpr unsigned kCookieBits = 47;
  static constexpr std::uint64_t kLastCookie = (std::uint64_t{1} << kCookieBits) - 1;

  struct Entry {
    std::uint64_t cookie;  // kFirstCookie to kLastCookie, unique in the listing
    std::string_view name;
    std::uint16_t layer;  // topmost layer that has it
    unsigned char type;   // DT_*
    std::uint8_t flags;   // the caller's
  };

  // The n-th choice of a cookie for `name`; n > 0 only if the choices before are other
  // names'. The result is brought into the range of cookies by the listing.
  using Hash = std::uint64_t (*)(std::string_view name, std::uint64_t choice);
  static std::uint64_t default_hash(std::string_view name, std::uint64_t choice);

  DirectoryListing() = default;
  // Another hash than the default, for tests of collisions.
  explicit DirectoryListing(Hash hash) : hash_(hash) {}
  ~DirectoryListing() = default;
  DirectoryListing(const DirectoryListing&) = delete;
  DirectoryListing& operator=(const DirectoryListing&) = delete;
  DirectoryListing(DirectoryListing&& other) noexcept { swap(other); }
  DirectoryListing& operator=(DirectoryListing&& other) noexcept {
    DirectoryListing(std::move(other)).swap(*this);
    return *this;
  }

  // nullptr: no such name.
  const Entry* find(std::string_view name) const;
  // Adds the entry, or changes the one of that name and leaves its cookie.
  void insert(std::string_view name, unsigned char type, std::uint16_t layer, std::uint8_t flags);
  // As insert, but only if the name is there; false if not.
  bool set(std::string_view name, unsigned char type, std::uint16_t layer, std::uint8_t flags);
  // false: no such name. Does not fail for want of memory.
  bool erase(std::string_view name);
  void clear() { *this = DirectoryListing(hash_); }

  // Calls f(const Entry&) for every entry with a cookie above `cookie`, in order, until
  // f returns false. f must not change the listing.
  template <class F>
  void for_each_after(std::uint64_t cookie, F f) const {
    for (Position at = upper_bound(cookie); at.block < blocks_.size(); ++at.block, at.index = 0) {
      const std::vector<Entry>& entries = blocks_[at.block].entries;
      for (; at.index < entries.size(); ++at.index) {
        if (!f(entries[at.index])) {
          return;
        }
      }
    }
  }

  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  // Entries of type DT_DIR.
  std::size_t directory_count() const { return directories_; }
  // Heap memory held, without the allocator's own overhead; this object not included.
  std::size_t bytes() const;

  void swap(DirectoryListing& other) noexcept;

 private:
  // Sorted runs of few enough entries that inserting into one is cheap; none is empty.
  struct Block {
    std::uint64_t first;  // cookie of entries.front(), kept here for the search
    std::vector<Entry> entries;
  };
  struct Position {
    std::size_t block;
    std::size_t index;
  };
  // Bytes of all names, allocated in chunks so that no name moves when others come.
  struct Chunk {
    std::unique_ptr<char[]> bytes;
    std::size_t capacity = 0;
  };

  std::uint64_t cookie_of(std::string_view name, std::uint64_t choice) const;
  // The first entry with a cookie of at least (above) `cookie`; block == blocks_.size()
  // at the end.
  Position lower_bound(std::uint64_t cookie) const;
  Position upper_bound(std::uint64_t cookie) const { return lower_bound(cookie + 1); }
  Position locate(std::string_view name) const;
  Entry* at(Position position);
  const Entry* at(Position position) const;
  void change(Entry& entry, unsigned char type, std::uint16_t layer, std::uint8_t flags);
  void add(const Entry& entry);
  void split(std::size_t block);
  void shrink(std::size_t block);
  void set_capacity(std::vector<Entry>& entries, std::size_t capacity);
  std::string_view store_name(std::string_view name);
  void compact_names();

  std::vector<Block> blocks_;
  std::vector<Chunk> chunks_;
  std::size_t chunk_used_ = 0;       // of the last chunk
  std::size_t names_capacity_ = 0;   // of all chunks
  std::size_t live_name_bytes_ = 0;  // of entries that are there
  std::size_t dead_name_bytes_ = 0;  // of entries that were erased
  std::size_t size_ = 0;
  std::size_t directories_ = 0;
  std::size_t capacity_entries_ = 0;  // of all blocks
  // No name has a cookie of a later choice. Never lowered: an entry keeps its cookie
  // after the one that displaced it is gone.
  std::uint64_t last_choice_ = 0;
  Hash hash_ = &default_hash;
};

}  // namespace layerfs
