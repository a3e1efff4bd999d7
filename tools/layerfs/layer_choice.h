// Which layers a command reads: an upper with its lowers, what a mount point is made of,
// or stacks given layer by layer.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "layers/merged_view.h"
#include "tools/common/command_line.h"
#include "tools/common/mount_table.h"
#include "tools/common/problem.h"

namespace layerfs {

// What the command line says.
struct LayerWords {
  std::vector<std::string> lowers;  // --lower, split; topmost first
  std::optional<std::string> work;  // --work
};

// --lower and --work, with what the command says of them.
Option lower_option(LayerWords& words, std::string help);
Option work_option(std::optional<std::string>& work, std::string help);

struct LayerChoice {
  std::vector<std::string> uppers;  // topmost first: what makes the changes
  std::vector<std::string> lowers;
  std::string work;  // of the topmost upper; "": none
  bool work_is_default = false;
  std::optional<MountEntry> mount;  // the choice was a mount point
  std::string mount_path;           // where its root can be reached
};

// `word` is an upper directory, a layerfs mount point, or, unless there is a file of that
// name, a container of layerfs-run.
Outcome<LayerChoice> choose_layers(const std::string& word, const LayerWords& words);
// Two stacks, each "L1:L2...", topmost first. Layers that both end with are the lowers.
// `work`: of the topmost of `now`.
Outcome<LayerChoice> choose_between(const std::string& before, const std::string& now,
                                    const std::optional<std::string>& work,
                                    std::vector<std::string>& before_layers);

// The layers of a choice, opened.
class OpenLayers {
 public:
  // `before`: a stack of its own in place of the lowers.
  static Outcome<std::unique_ptr<OpenLayers>> open(const LayerChoice& choice,
                                                   const std::vector<std::string>& before = {});

  const MergedView& now() const { return *now_; }
  const MergedView& before() const { return *before_; }
  // The trees as they are now: of what changed, only what was looked at before is kept.
  Outcome<void> look_again();
  // The layers from the `first` of all on, without the index.
  Outcome<MergedView> below(LayerIndex first) const;
  const LayerStack& stack() const { return *stack_; }
  LayerIndex upper_count() const { return uppers_; }

 private:
  std::optional<LayerStack> stack_;
  std::optional<LayerStack> before_stack_;
  UniqueFd index_;
  LayerIndex uppers_ = 0;
  std::optional<MergedView> now_;
  std::optional<MergedView> before_;
};

}  // namespace layerfs
