// Directory trees made from a few words. Nothing here uses the code under test.
#pragma once

#include <string>
#include <vector>

#include "tests/testlib/files.h"

namespace layerfs::testing {

inline std::string operator/(const TempDir& dir, const std::string& name) { return dir.at(name); }

// Makes objects below `root`, which is created. Each word is one of
//   a/b/          a directory            a=text    a file with that content
//   a->target     a symlink              a==b      a hard link of b (made before)
//   a|            a FIFO                 a@0644    sets the mode of what is there
//   a#user.x=v    sets an attribute      a~12.5    sets the modification time
// Missing directories above are made. Every object gets the time 1000000000.0; a
// directory gets it again when all is made, unless its own word set another.
void make_tree(const std::string& root, const std::vector<std::string>& words);

// User attributes can be set where TempDir makes its directories.
bool has_user_xattrs();

}  // namespace layerfs::testing
