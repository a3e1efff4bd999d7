// A parallel load whose every file can be judged after a crash: it consists of slots that go
// from step to step, and the step tells what must be there.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

namespace layerfs::fault {

enum class SlotKind : std::uint8_t {
  Replace,    // a file replaced by rename, its content on disk before
  Overwrite,  // a file of blocks written in place, and fsync
  Append,     // records at the end of a file, and fsync
  Name,       // a file, nothing, a directory, nothing, by turns
  MoveFile,   // a file at one of three names
  MoveTree,   // a directory of a lower at one of three names
  Mode,       // the mode of a lower file
  Linked,     // two names of one file, written by either, and fsync
  Count
};

// One slot is one worker's. What has been done is step `done`; `next` may have been. A power
// cut may leave any from `kept` on.
struct Slot {
  std::atomic<std::uint32_t> kept{0};
  std::atomic<std::uint32_t> done{0};
  std::atomic<std::uint32_t> next{0};
};

// The slots, in memory that the worker processes share.
class Load {
 public:
  static constexpr unsigned kWorkers = 4;
  static constexpr unsigned kOfEachKind = 3;
  static constexpr unsigned kSlots =
      kWorkers * kOfEachKind * static_cast<unsigned>(SlotKind::Count);

  Load();
  ~Load();
  Load(const Load&) = delete;
  Load& operator=(const Load&) = delete;

  struct Steps {
    std::uint32_t kept;
    std::uint32_t next;
  };
  // What ends the daemon: only that, so that all that was done is there, or the power too.
  enum class End { Daemon, Power };

  // All slots at step 0.
  void restart();
  // Of each slot.
  std::vector<Steps> state() const;
  void go_back_to(const std::vector<Steps>& state);
  // Makes the files of that step below `lower`.
  static void make_files(const std::string& lower);
  // Random steps of the worker's slots in the tree at `root` until one fails, or `steps` were
  // done; returns its errno, or 0. For an end by `Power`, what was done is put on disk now and
  // then.
  int work(const std::string& root, unsigned worker, std::uint64_t seed, End end,
           std::uint64_t steps = ~std::uint64_t{0});
  // What the tree at `root` shows that is none of the steps it may be at, for a person.
  // Afterwards every slot is at one step.
  std::vector<std::string> judge(const std::string& root);
  std::uint64_t steps() const;

 private:
  Slot* slots_;
};

}  // namespace layerfs::fault
