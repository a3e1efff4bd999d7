// The filesystem under test, and the directory of one test in it.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "tests/testlib/as_user.h"

namespace layerfs::testing::posix {

// What is tried, by the environment's LAYERFS_POSIX_ON: one of plain, overlay, cached and
// passthrough, then any of
//   lower   what a test makes beforehand lies in a lower layer
//   userns  the test, and what it mounts, is root of a user namespace only
struct Stage {
  std::string filesystem;
  bool in_lower = false;
  bool in_user_namespace = false;
};
const Stage& stage();

class Mounted;

// A fresh directory of the filesystem under test, root's with mode 0755, and the current
// directory as long as this lives: tests name objects by paths relative to it.
class Ground {
 public:
  // `make` makes what the test begins with, in its current directory.
  explicit Ground(const std::function<void()>& make = [] {});
  ~Ground();
  Ground(const Ground&) = delete;
  Ground& operator=(const Ground&) = delete;

 private:
  std::unique_ptr<Mounted> own_;  // none where all tests share one
};

// Runs `call` with the ids of `user` and without capabilities; returns what it returned.
long by(const User& user, const std::function<long()>& call);

}  // namespace layerfs::testing::posix
