#include <nlohmann/json.hpp>

#include "layers/mount_config.h"
#include "tools/common/interrupt.h"
#include "tools/common/layer_users.h"
#include "tools/layerfs/commands.h"
#include "tools/layerfs/fallible.h"
#include "tools/layerfs/mark_options.h"
#include "tools/oci/convert_layer.h"

namespace layerfs {
namespace {

struct ConvertOptions {
  std::optional<WhiteoutForm> form;
  bool json = false;
};

Command command_for(ConvertOptions& options) {
  return Command{
      .program = "layerfs convert",
      .usage = {"--whiteout FORM LAYER [--json]"},
      .summary =
          "Turns the whiteouts and opaque marks of a layer into another form, in place. "
          "Interrupted it has both, which means the same, and can be run again.",
      .groups = {{"Options",
                  {{.name = "whiteout",
                    .value = "FORM",
                    .help = "overlay: devices 0:0 and attributes, as kernel overlayfs has them; "
                            "oci: .wh. files, as in OCI layers.",
                    .apply = [&options](std::string_view text) -> Outcome<void> {
                      LFS_ASSIGN(options.form, parse_whiteout_form(text));
                      return {};
                    }},
                   {.name = "json",
                    .help = "Print JSON.",
                    .apply = [&options](std::string_view) -> Outcome<void> {
                      options.json = true;
                      return {};
                    }}}}},
  };
}

Outcome<void> run(const std::vector<std::string>& positionals, const ConvertOptions& options,
                  const Streams& streams) {
  if (positionals.size() != 1) {
    return usage_error(positionals.empty() ? "no layer is given"
                                           : "unexpected argument '" + positionals[1] + "'");
  }
  if (!options.form) {
    return usage_error("--whiteout overlay or --whiteout oci is expected");
  }
  if (const auto id = directory_id(positionals[0])) {
    LFS_ASSIGN(const auto use, layer_use(*id));
    if (use) {
      return failed("'" + positionals[0] + "' is " + *use + "; unmount it first");
    }
  }
  const auto poll = []() -> oci::Fallible<void> {
    return InterruptGuard::interrupted()
               ? oci::Fallible<void>(Failure{"interrupted; run it again to convert the rest"})
               : oci::Fallible<void>();
  };
  LFS_ASSIGN(const oci::Converted done,
             to_outcome(oci::convert_layer(positionals[0], *options.form, poll)));
  if (options.json) {
    streams.out << nlohmann::json{{"layer", bytes_to_json(positionals[0])},
                                  {"directories", done.directories},
                                  {"marks", done.marks}}
                       .dump()
                << '\n';
  } else {
    streams.out << positionals[0] << ": " << done.marks << " marks converted in "
                << done.directories << " directories\n";
  }
  return {};
}

}  // namespace

Command describe_convert() {
  static ConvertOptions unused;
  return command_for(unused);
}

int cmd_convert(Arguments arguments, const Streams& streams, const Environment& /*environment*/) {
  ConvertOptions options;
  return run_command(command_for(options), arguments, streams, OnSignal::CleanUp,
                     [&](const std::vector<std::string>& positionals) {
                       return run(positionals, options, streams);
                     });
}

}  // namespace layerfs
