// What layerfs-run can do on this machine, and the one thing that mends each lack.
#pragma once

#include <string>
#include <vector>

namespace layerfs::run {

struct Finding {
  std::string what;
  bool holds = false;
  bool needed = false;  // without it there is no container at all
  std::string detail;   // what was found, or what to do
};

std::vector<Finding> examine_machine();

}  // namespace layerfs::run
