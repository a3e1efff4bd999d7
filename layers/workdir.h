// The work directory of a writable layer: where every change is built before one rename
// publishes it. Holds
//   work/            temporary objects; emptied at start and end, as overlayfs does
//   work/incompat/volatile   the mark of an unfinished volatile mount
//   layerfs.index/   upper inodes of lower hard links, named by their origin
#pragma once

#include <atomic>
#include <string>
#include <utility>

#include "layers/layer_stack.h"
#include "layers/sys/syscalls.h"

namespace layerfs {

enum class Durability {
  Synced,
  Volatile,   // nothing waits for the disk before the end, and a mark refuses the layer until then
  Discarded,  // nobody looks at the layer after the mount
};

// What opening a work directory made, so that a mount that fails afterwards leaves
// nothing behind. Holds the lock on it.
class FreshWork {
 public:
  // Removes what was made and has remained empty, this mount's volatile mark, and what
  // mark_layer() set: what somebody used stays.
  void take_back();
  // Gives the root of the layer an attribute that it has not.
  Status mark_layer(const char* name, std::string_view value);

 private:
  friend class Workdir;
  UniqueFd lock_;
  UniqueFd layer_;
  std::string path_;
  const char* layer_mark_ = nullptr;
  bool root_ = false;
  bool work_ = false;
  bool index_ = false;
  bool volatile_mark_ = false;
};

// What is done with an upper whose volatile mount did not end cleanly.
enum class Unclean { Refuse, Accept };

class Workdir {
 public:
  // Creates the directory if its parent exists, locks it and the layer against other
  // mounts, checks that a rename into `layer` works, and empties work/. Takes back what
  // it made if it fails; else `fresh` (may be null) can.
  static Result<Workdir, Failure> open(const std::string& path, const Layer& layer,
                                       Durability durability, FreshWork* fresh = nullptr,
                                       Unclean unclean = Unclean::Refuse);

  Workdir(Workdir&&) noexcept;
  Workdir& operator=(Workdir&&) = delete;
  ~Workdir() = default;

  int fd() const { return work_.get(); }
  int index_fd() const { return index_.get(); }
  const std::string& path() const { return path_; }
  // A name not used in work/ before, also not by a mount that crashed.
  std::string temp_name();
  // Empties work/ and removes the volatile mark after everything has been written; nothing of
  // a discarded layer.
  Status finish();

 private:
  Workdir() = default;
  static Result<Workdir, Failure> open_noting(const std::string& path, const Layer& layer,
                                              Durability durability, FreshWork& fresh,
                                              Unclean unclean);

  std::string path_;
  UniqueFd lock_;
  UniqueFd layer_lock_;
  UniqueFd work_;
  UniqueFd index_;
  Durability durability_ = Durability::Synced;
  std::string session_;
  std::atomic<std::uint64_t> next_{1};
};

// An object being built in work/: removed again unless it is published.
class TempEntry {
 public:
  TempEntry(int work, std::string name) : work_(work), name_(std::move(name)) {}
  TempEntry(TempEntry&& other) noexcept
      : work_(other.work_), name_(std::exchange(other.name_, {})) {}
  TempEntry& operator=(TempEntry&& other) noexcept {
    std::swap(work_, other.work_);
    std::swap(name_, other.name_);
    return *this;
  }
  ~TempEntry();

  sys::At at() const { return {work_, name_.c_str()}; }
  // Ends this object's responsibility for the name; returns it.
  std::string release() { return std::exchange(name_, {}); }

 private:
  int work_;
  std::string name_;
};

}  // namespace layerfs
