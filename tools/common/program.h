// What the main() of our programs does around their work.
#pragma once

#include <functional>
#include <span>
#include <string>

#include "tools/common/streams.h"

namespace layerfs {

// Calls `work` with the arguments, the program's name first, and returns its exit code, or 1 if
// what was printed could not be written; `name` is for that message.
int run_main(const char* name, int argc, char** argv,
             const std::function<int(std::span<const std::string>, const Streams&)>& work);

}  // namespace layerfs
