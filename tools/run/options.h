// The command line of `layerfs-run [OPTION...] [--] COMMAND [ARGUMENT...]`.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "tools/common/command_line.h"
#include "tools/run/run_config.h"

namespace layerfs::run {

class RunOptions {
 public:
  RunOptions();
  RunOptions(const RunOptions&) = delete;
  RunOptions& operator=(const RunOptions&) = delete;

  // The table points into this object.
  Command describe();
  // After parsing: what the options say together.
  Outcome<RunConfig> finish(std::vector<std::string> command);

 private:
  std::vector<OptionGroup> groups();
  OptionGroup root_options();
  OptionGroup process_options();
  OptionGroup isolation_options();
  OptionGroup limit_options();

  RunConfig config_;
  std::uint64_t added_ = 0;
  std::uint64_t dropped_ = 0;
};

}  // namespace layerfs::run
