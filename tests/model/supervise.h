// Runs an episode in a process of its own, so that a request that never returns ends the
// run and not the test, and each replay starts clean.
#pragma once

#include <optional>
#include <string>

#include "tests/model/episode.h"

namespace layerfs::model {

struct SupervisedRun {
  std::optional<Failure> failure;
  // The operations that were begun.
  std::vector<Op> ops;
};

// `settings.dir` is emptied first and afterwards. `quiet_seconds` without a new operation
// is a hang.
SupervisedRun run_supervised(const Episode& episode, const RunSettings& settings,
                             int quiet_seconds);

// Fewer operations and layer entries with a difference of the same kind, found by
// leaving some out; gives up after `seconds`.
Episode shrink(const Episode& episode, const Failure& failure, const RunSettings& settings,
               int seconds);

}  // namespace layerfs::model
