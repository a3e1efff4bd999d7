// The options of `layerfs commit`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tools/common/command_line.h"
#include "tools/common/progress.h"
#include "tools/layerfs/layer_choice.h"
#include "tools/oci/compression.h"

namespace layerfs {

struct CommitOptions {
  LayerWords words;
  std::optional<std::string> output;  // a layer's file, or "-"
  std::optional<oci::Compression> compression;
  int threads = 0;
  bool squash = false;
  bool strict = false;
  bool explicit_whiteouts = false;
  bool whole_seconds = false;
  std::optional<std::int64_t> timestamp;
  bool json = false;
  ProgressMode progress = ProgressMode::Auto;

  Command command();
};

// SOURCE_DATE_EPOCH (reproducible-builds.org): seconds since 1970; nullopt: not set.
Outcome<std::optional<std::int64_t>> source_date_epoch();

}  // namespace layerfs
