// Where a command writes. Injected, so that tests run whole commands in process.
#pragma once

#include <ostream>

namespace layerfs {

struct Streams {
  std::ostream& out;
  std::ostream& err;
  bool out_is_terminal = false;
  bool err_is_terminal = false;
};

}  // namespace layerfs
