// Every kind of change, on the objects of a Stack.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tests/fault/stack.h"

namespace layerfs::fault {

// Where an operation runs, and what it has open.
class World {
 public:
  explicit World(std::string root) : root_(std::move(root)) {}
  ~World() { drop(); }
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  std::string at(const std::string& path) const { return root_ + "/" + path; }
  // 0, or -errno of the close(2).
  int drop();

  int fd = -1;

 private:
  std::string root_;
};

// 0 or -errno.
using Act = std::function<int(World&)>;

enum class Trait {
  Init,        // with the init layer
  WritesBack,  // its close(2) or fsync(2) may write pages or times out
  // It changes data or its length: the kernel keeps what it could not write, as of any file
  // system, so after an error a mount may show what the next does not.
  Data,
  // What a crash may leave:
  HighCount,     // a count of links in the index that is too high; layerfs check mends it
  IdleWhiteout,  // a whiteout that hides nothing; layerfs check removes it
  BothNames,     // the object at both names (fs/rename.cc, move_between_layers)
};

struct Operation {
  std::string name;
  std::vector<Act> steps;         // each is one system call that changes something
  std::vector<Act> prepare = {};  // in a mount before
  std::set<Trait> traits = {};
  bool has(Trait trait) const { return traits.contains(trait); }
  // Whether a finding of `layerfs check` is among what may be left.
  bool may_leave(const std::string& finding) const;
};
const std::vector<Operation>& operations();

}  // namespace layerfs::fault
