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
#include "tools/oci/image_build.h"
#include "tools/oci/image_reference.h"

namespace layerfs {

struct CommitOptions {
  LayerWords words;
  // Either a layer's file, or "-", ...
  std::optional<std::string> output;
  // ... or an image, on top of another or with the lowers as layers.
  std::optional<oci::ImageReference> image;
  std::optional<oci::ImageReference> base;
  oci::ImageNotes notes;
  std::optional<oci::Compression> compression;
  int threads = 0;
  std::vector<std::string> empty;  // paths of directories, relative
  bool squash = false;
  bool strict = false;
  bool explicit_whiteouts = false;
  bool whole_seconds = false;
  std::optional<std::int64_t> timestamp;
  bool json = false;
  ProgressMode progress = ProgressMode::Auto;

  Command command();
  // Of those given together.
  Outcome<void> check() const;

 private:
  OptionGroup what_group();
  OptionGroup where_group();
  OptionGroup image_group();
  OptionGroup form_group();
  Option image_option(oci::Transport transport, std::string name, std::string value,
                      std::string help);
};

// SOURCE_DATE_EPOCH (reproducible-builds.org): seconds since 1970; nullopt: not set.
Outcome<std::optional<std::int64_t>> source_date_epoch();

}  // namespace layerfs
