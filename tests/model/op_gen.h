// Random operations. What exists is followed in a picture of the tree, so that most
// operations meet something; the picture may be out of date, which only makes an
// operation fail on both sides.
#pragma once

#include <array>
#include <map>
#include <string>
#include <vector>

#include "tests/model/op.h"
#include "tests/model/random.h"
#include "tests/model/side.h"

namespace layerfs::model {

struct OpOptions {
  bool remounts = true;
  bool rotations = true;
  bool drop_caches = true;
  // Whether the backing filesystem has FALLOC_FL_ZERO_RANGE. If not, FUSE refuses it too,
  // but only after the kernel has dropped set-id bits and capabilities.
  bool zero_range = true;
  std::int64_t compare_every = 400;
  std::size_t long_name = kMaxName;
};

class OpGenerator {
 public:
  OpGenerator(std::uint64_t seed, const OpOptions& options) : random_(seed), options_(options) {}
  Op next();
  // What the oracle answered.
  void learn(const Op& op, const Outcome& outcome);
  // Takes the tree below `root` as it is.
  void look(int root);

 private:
  enum class Want { Any, Directory, File };

  void by_path(Op& op, OpKind kind);
  void by_slot(Op& op, OpKind kind);
  void by_dir_slot(Op& op);
  std::string existing(Want want);
  std::string fresh();
  std::string some_path(Want want);
  std::string name();
  std::int64_t offset();
  std::int64_t length();
  std::int64_t mode();
  std::int64_t open_flags();
  std::int64_t xattr();
  void times(Op& op, std::size_t first);
  std::int64_t id() {
    return random_.chance(30) ? -1 : random_.chance(30) ? 0 : random_.between(1000, 1001);
  }
  std::int64_t slot();
  void move(const std::string& from, const std::string& to);
  void erase(const std::string& path);
  void learn_rename(const Op& op);

  Random random_;
  OpOptions options_;
  std::map<std::string, char> picture_;  // 'd', 'f', 'l' or 'n'
  std::array<bool, kFileSlots> open_{};
  std::array<bool, kDirSlots> open_dirs_{};
  std::int64_t since_compare_ = 0;
};

}  // namespace layerfs::model
