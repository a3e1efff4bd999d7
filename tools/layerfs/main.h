#pragma once

#include <span>

#include "tools/layerfs/app.h"

namespace layerfs {

// main() of a program that has these commands.
int main_with(int argc, char** argv, std::span<const CommandEntry> commands,
              const Environment& environment);

}  // namespace layerfs
