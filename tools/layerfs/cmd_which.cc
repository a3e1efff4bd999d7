#include <algorithm>
#include <nlohmann/json.hpp>

#include "layers/mount_config.h"
#include "tools/common/control_client.h"
#include "tools/layerfs/commands.h"

namespace layerfs {
namespace {

using nlohmann::json;

constexpr const char* kName = "which";
constexpr std::size_t kLayerWidth = 12;

struct WhichOptions {
  bool json = false;
};

Command command_for(WhichOptions& options) {
  return Command{
      .program = "layerfs which",
      .usage = {"PATH... [OPTION...]"},
      .summary =
          "Shows for each PATH in a layerfs mount the layer that provides it, and what "
          "hides below it in other layers.",
      .groups = {{"Options",
                  {{.name = "json",
                    .help = "Print one JSON document a path, one on each line.",
                    .apply = [&options](std::string_view) -> Outcome<void> {
                      options.json = true;
                      return {};
                    }}}}},
      .notes =
          "A symbolic link is itself and is not followed. A deleted name is the whiteout "
          "that hides it.",
  };
}

std::string text(const json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() ? std::string{} : bytes_from_json(*found).value_or(found->dump());
}

std::string layer_line(const json& item, const char* remark) {
  std::string out = "  " + text(item, "layer");
  out.resize(std::max(kLayerWidth, out.size() + 1), ' ');
  out += text(item, "path");
  const std::string kind = remark == nullptr ? std::string{} : text(item, remark);
  return out + (kind.empty() ? "" : "  (" + kind + ")") + "\n";
}

std::string describe(const std::string& path, const json& answer) {
  std::string out = path + ": " + text(answer, "type") + "\n";
  if (answer.contains("provider")) {
    out += layer_line(answer["provider"], nullptr);
  }
  if (answer.contains("below") && answer["below"].is_array()) {
    for (const json& item : answer["below"]) {
      out += layer_line(item, "kind");
    }
  }
  return out;
}

Outcome<void> show(const std::string& path, const WhichOptions& options, const Streams& streams) {
  LFS_ASSIGN(const Located located, locate_layerfs(path, LastComponent::AsIs));
  const json request = {{"cmd", "which"}, {"path", bytes_to_json(located.inside)}};
  LFS_ASSIGN(const json answer, ask_daemon_json(located.mount, {.line = request.dump()}));
  if (answer.contains("error")) {
    const std::string message = text(answer, "message");
    return failed("'" + path + "': " + (message.empty() ? text(answer, "error") : message));
  }
  streams.out << (options.json ? answer.dump() + "\n" : describe(path, answer));
  return {};
}

}  // namespace

Command describe_which() {
  static WhichOptions unused;
  return command_for(unused);
}

int cmd_which(Arguments arguments, const Streams& streams, const Environment& /*environment*/) {
  WhichOptions options;
  const auto show_all = [&](const std::vector<std::string>& paths) -> Outcome<int> {
    if (paths.empty()) {
      return usage_error("no path is given");
    }
    int code = to_int(ExitCode::Ok);
    for (const std::string& path : paths) {
      if (auto shown = show(path, options, streams); !shown) {
        code = report(shown.error(), kName, streams);
      }
    }
    return code;
  };
  return run_command(command_for(options), arguments, streams, show_all);
}

}  // namespace layerfs
