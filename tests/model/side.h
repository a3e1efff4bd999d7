// One of the two trees that operations are run on: the oracle or the mount.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tests/model/op.h"

namespace layerfs::model {

struct Outcome {
  std::int64_t value = 0;
  int error = 0;
  // What was read: bytes, a symlink's target, attribute names.
  std::uint64_t digest = 0;
  friend bool operator==(const Outcome&, const Outcome&) = default;
};
std::string to_text(const Outcome& outcome);

std::uint64_t digest_of(std::string_view bytes);

struct ListedName {
  std::string name;
  std::uint64_t ino;
  unsigned char type;
};

// Entries in the order they came, "." and ".." included. -1 and errno on failure, else 0.
int list_directory(int dir_fd, std::vector<ListedName>& out);

class Side {
 public:
  ~Side() { close_all(); }
  Side() = default;
  Side(const Side&) = delete;
  Side& operator=(const Side&) = delete;

  // Absolute path of the root. False and errno if it does not open.
  bool attach(const std::string& root);
  // Closes everything, so that the root can be unmounted.
  void detach();
  int root() const { return root_; }

  Outcome run(const Op& op);

  int file(std::int64_t slot) const { return files_[index(slot, kFileSlots)]; }
  int dir(std::int64_t slot) const { return dirs_[index(slot, kDirSlots)]; }
  // What the last ReadSome returned.
  const std::vector<ListedName>& last_read() const { return last_read_; }

 private:
  static std::size_t index(std::int64_t slot, std::size_t count) {
    return static_cast<std::size_t>(slot) % count;
  }
  void close_all();
  Outcome run_path(const Op& op);
  Outcome run_file(const Op& op, int fd);
  Outcome run_dir(const Op& op);
  Outcome open_slot(const Op& op);
  Outcome read_some(int fd, std::int64_t bytes);

  int root_ = -1;
  std::array<int, kFileSlots> files_{-1, -1, -1, -1, -1, -1, -1, -1};
  std::array<int, kDirSlots> dirs_{-1, -1, -1};
  std::vector<ListedName> last_read_;
};

}  // namespace layerfs::model
