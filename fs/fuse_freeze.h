// Keeps the layers of a mount as they are at one instant, while its users wait.
//
// With the writeback cache a write is a request only later, so writers are made to wait in
// the request for attributes that comes before their write, and the rest is written back
// until nothing is left. Where writes are passed through they are no request at all; but
// the kernel locks the inode for them, as it does for SETXATTR, so whoever freezes sends one
// for each file that is open for writing, and they are not answered until the end.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "fs/fuse_ops.h"

namespace layerfs {

class Freezer {
 public:
  explicit Freezer(FuseContext& context) : context_(context) {}

  struct Begun {
    // The mount must be written back before each close().
    bool write_back = false;
    // Files to which a SETXATTR must be under way before close().
    std::vector<std::string> hold;
  };
  Result<Begun, Failure> begin();
  // False: more came meanwhile; write back and ask again.
  Result<bool, Failure> close();
  // What waited is served, by the calling thread.
  void thaw();

 private:
  Result<bool, Failure> close_gathered();
  Result<bool, Failure> close_held();
  void forget_attributes();

  FuseContext& context_;
  std::vector<NodeId> held_;
  std::uint64_t writes_ = 0;
  unsigned tries_ = 0;
};

}  // namespace layerfs
