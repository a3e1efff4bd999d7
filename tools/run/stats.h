// What the processes of a container use now.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "tools/run/state.h"

namespace layerfs::run {

struct ContainerUse {
  std::uint64_t cpu_us = 0;  // since the start
  std::uint64_t processes = 0;
  std::optional<std::uint64_t> most_processes;
  std::uint64_t memory = 0;  // bytes
  std::optional<std::uint64_t> most_memory;
  std::optional<std::uint64_t> memory_peak;
  std::uint64_t periods = 0;  // of the processor's quota
  std::uint64_t throttled = 0;
};

// As the control groups of its limits count it, and what they do not count as /proc tells it:
// pages that processes share are then counted for each, and the processor's time of those
// that `exec` started is lost with them.
ContainerUse use_of(const ContainerState& state);

// Lines of text; with `before`, what was so `seconds` ago, how much of a processor was used
// since.
std::string use_text(const ContainerUse& use, const ContainerUse* before, double seconds);

}  // namespace layerfs::run
