// A small stack of layers with one object of each kind, made anew for each case.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "layers/mount_config.h"
#include "tests/fault/mount.h"

namespace layerfs::fault {

// A way of mounting.
struct Variant {
  std::string name;
  void (*set)(MountConfig& config);
};
const std::vector<Variant>& variants();

// What a tree shows, for comparison.
struct Object {
  std::string look;  // all but what follows
  bool is_directory = false;
  std::uint64_t links = 0;
  std::string linked;   // the first name of the same object, if it has several
  bool is_new = false;  // the modification time is not one that the stack was made with
  std::uint64_t ino = 0;
};
struct Tree {
  std::map<std::string, Object> objects;
  std::vector<std::string> errors;
};
Tree look_at(const std::string& root);

enum class Match {
  Whole,      // one of the trees
  LinksHigh,  // the same, but counts of hard links may be too high
  EachName,   // each name as in any of the trees
};

// What `seen` shows that none of `allowed` does; empty if they match. Each modification time
// may be that of any of them, and that of a directory new: when an entry is copied up it is
// put back afterwards. Lines for a person.
std::vector<std::string> compare(const std::vector<Tree>& allowed, const Tree& seen, Match match);

class Stack {
 public:
  // Makes the lowers and the mount point below `base`. `place`: where the upper and the work
  // directory are, if elsewhere.
  Stack(const std::string& base, const Variant& variant, const std::string& place = "");

  // A new upper without a work directory, and a new init layer.
  void renew();
  // `init`: with the init layer.
  MountConfig config(bool init) const;
  const std::string& base() const { return base_; }
  std::string root() const { return base_ + "/m"; }
  std::string upper() const { return place_ + "/u"; }
  // Names left in the work directory, but the index.
  std::vector<std::string> leftovers() const;
  // What `layerfs check` finds in the upper, one a line, each with the kind before it.
  std::vector<std::string> findings(bool init) const;
  // Differences of the lowers from what they were, access times included.
  std::vector<std::string> lowers_changed() const;

 private:
  std::string base_;
  std::string place_;
  const Variant& variant_;
  std::string lowers_;
};

}  // namespace layerfs::fault
