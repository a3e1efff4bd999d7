// Sorts more byte strings than there is memory for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "layers/spill_log.h"

namespace layerfs {

// What the sorters of one walk share. A sorter that was made later ends earlier.
struct SortSpace {
  SpillLog log;
  std::size_t held = 0;  // bytes in memory, of those that are sorted
};

// Takes up to 4 MiB while records are added. Sorted, it takes none where the others of its
// space take 4 MiB.
class RecordSorter {
 public:
  explicit RecordSorter(SortSpace& space) : space_(&space), start_(space.log.size()) {}
  RecordSorter(const RecordSorter&) = delete;
  RecordSorter& operator=(const RecordSorter&) = delete;
  ~RecordSorter();

  Result<void, Failure> add(std::string_view record);
  // After the last; before the first reader.
  Result<void, Failure> finish();
  std::uint64_t count() const { return count_; }

  // The records in bytewise order. The sorter must outlive it and stay where it is.
  class Reader {
   public:
    explicit Reader(const RecordSorter& sorter);
    Reader(Reader&&) = default;
    Reader& operator=(Reader&&) = default;
    Reader(const Reader&) = delete;
    Reader& operator=(const Reader&) = delete;
    ~Reader() = default;
    // nullopt: there is no more. Valid until pop() or rest().
    Result<std::optional<std::string_view>, Failure> head();
    void pop();
    // Lets go of buffers, until head() is called again.
    void rest();

   private:
    struct Cursor;
    Result<void, Failure> load();
    std::size_t piece() const;
    bool is_after(std::size_t a, std::size_t b) const;

    const RecordSorter* sorter_;
    std::size_t next_ = 0;         // in memory
    std::vector<Cursor> cursors_;  // one a run
    std::vector<std::size_t> heap_;
    bool loaded_ = false;
    bool is_popped_ = false;
  };

 private:
  struct Run {
    std::uint64_t begin;
    std::uint64_t end;
  };
  std::string_view at(std::uint32_t offset) const;
  std::size_t held_bytes() const { return arena_.capacity() + offsets_.capacity() * 4; }
  void sort();
  Result<void, Failure> write_run();

  SortSpace* space_;
  std::uint64_t start_;  // of what it has in the log
  std::uint64_t count_ = 0;
  std::size_t counted_ = 0;  // in SortSpace::held
  std::string arena_;        // each record after its length
  std::vector<std::uint32_t> offsets_;
  std::vector<Run> runs_;
};

// One record of a sorted run.
struct RecordSorter::Reader::Cursor {
  std::uint64_t at;  // of what follows the buffer
  std::uint64_t end;
  std::string buffer;
  std::size_t used = 0;  // of the buffer, before the head
  std::string_view head;

  void skip();
  // false: the run is at its end.
  Result<bool, Failure> fill(const SpillLog& log, std::size_t piece);
};

}  // namespace layerfs
