// One starting tree and a sequence of operations on it: what a seed gives, what a
// reproduction holds.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tests/model/compare.h"
#include "tests/model/layer_spec.h"
#include "tests/model/mounted_tree.h"
#include "tests/model/op.h"
#include "tests/model/op_gen.h"
#include "tests/model/sabotage.h"

namespace layerfs::model {

struct Episode {
  std::vector<LayerSpec> layers;  // topmost first
  // The topmost layer is the mount's init layer.
  bool init = false;
  std::vector<Op> ops;  // empty: generate
  std::uint64_t seed = 0;
  std::int64_t count = 0;  // how many to generate
  OpOptions op_options;
};

std::string episode_text(const Episode& episode);
// Throws std::runtime_error on a line it does not know.
Episode parse_episode(const std::string& text);

struct RunSettings {
  MountSettings mount;
  CompareOptions compare;
  std::string dir;  // an empty directory to work in
  Sabotage sabotage = Sabotage::None;
  // Before an upper becomes a lower and at the end: kernel overlayfs must show the same tree.
  bool verify_with_overlayfs = false;
  // A descriptor opened for reading may show the data from before copy-up.
  bool stale_readers = false;
  // Files written through a mapping: the mount may not know the time.
  bool stale_map_times = false;
};

struct Failure {
  Difference difference;
  std::int64_t step = 0;  // 1 is the first operation; 0: before
};

// Runs in this process. Operations go to the file `dir`/ops.log before each is done.
std::optional<Failure> run_episode(const Episode& episode, const RunSettings& settings);

}  // namespace layerfs::model
