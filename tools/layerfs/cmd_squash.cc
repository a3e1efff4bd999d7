#include <nlohmann/json.hpp>

#include "layers/mount_config.h"
#include "tools/common/interrupt.h"
#include "tools/common/progress.h"
#include "tools/common/syntax.h"
#include "tools/layerfs/commands.h"
#include "tools/layerfs/estimate.h"
#include "tools/layerfs/fallible.h"
#include "tools/layerfs/layer_choice.h"
#include "tools/layerfs/mark_options.h"
#include "tools/layerfs/tell_losses.h"
#include "tools/oci/pack.h"
#include "tools/oci/squash.h"

namespace layerfs {
namespace {

struct SquashWords {
  MarkChoice marks;
  std::optional<std::string> work;
  bool strict = false;
  bool json = false;
  ProgressMode progress = ProgressMode::Auto;
};

Command command_for(SquashWords& words) {
  return Command{
      .program = "layerfs squash",
      .usage = {"LAYER[:LAYER...] OUT [OPTION...]"},
      .summary =
          "Makes of several layers, the leftmost on top, one new directory that means the same on "
          "whatever it is stacked: deletions and opaque directories are kept.",
      .groups = {{"Options",
                  {work_option(words.work,
                               "The work directory of the topmost layer, if that was an upper: it "
                               "holds the hard links of lower files. Default: .NAME.layerfs-work "
                               "beside it."),
                   whiteout_option(words.marks), override_stat_option(words.marks),
                   flag("strict",
                        "Fail if something is lost (a socket, say), which otherwise is "
                        "listed.",
                        words.strict),
                   flag("json", "Print JSON.", words.json), progress_option(words.progress)}}},
  };
}

Outcome<void> run(const std::vector<std::string>& positionals, const SquashWords& words,
                  const Streams& streams) {
  if (positionals.size() != 2) {
    return usage_error(positionals.size() > 2 ? "unexpected argument '" + positionals[2] + "'"
                                              : "layers and a new directory are expected");
  }
  LayerChoice choice;
  LFS_ASSIGN(choice.uppers, split_layers(positionals[0]));
  choice.work_is_default = !words.work;
  choice.work = words.work.value_or(default_work_dir(choice.uppers.front()));
  LFS_ASSIGN(const auto layers, OpenLayers::open(choice));
  Progress progress(streams.err, words.progress, streams.err_is_terminal);
  oci::SquashOptions options;
  options.marks.form = words.marks.form;
  options.override_stat = words.marks.override_stat;
  options.writer.progress = [&progress](std::uint64_t bytes) -> oci::Fallible<void> {
    if (InterruptGuard::interrupted()) {
      return Failure{"interrupted; nothing was written"};
    }
    progress.add(bytes);
    return {};
  };
  options.strict = words.strict;
  progress.start("squashing", estimate_bytes(progress, layers->stack(), layers->stack().size()));
  LFS_ASSIGN(const oci::Squashed done,
             to_outcome(oci::squash_layers(layers->now(), positionals[1], options)));
  progress.finish();
  LFS_TRY(tell_losses(done.losses, "squash: lost", streams));
  if (words.json) {
    streams.out << nlohmann::json{{"layer", bytes_to_json(positionals[1])},
                                  {"entries", done.entries},
                                  {"lost", done.losses.size()}}
                       .dump()
                << '\n';
  }
  return {};
}

}  // namespace

Command describe_squash() {
  static SquashWords unused;
  return command_for(unused);
}

int cmd_squash(Arguments arguments, const Streams& streams, const Environment& /*environment*/) {
  SquashWords words;
  return run_command(command_for(words), arguments, streams, OnSignal::CleanUp,
                     [&](const std::vector<std::string>& positionals) {
                       return run(positionals, words, streams);
                     });
}

}  // namespace layerfs
