#include "tools/run/state.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tools/common/process.h"
#include "tools/run/places.h"
#include "tools/run/text_file.h"

namespace layerfs::run {
namespace {

using nlohmann::json;

constexpr const char* kFile = "/state.json";

json text_list(const std::vector<std::string>& texts) {
  json out = json::array();
  for (const std::string& text : texts) {
    out.push_back(bytes_to_json(text));
  }
  return out;
}

std::vector<std::string> list_of(const json& value) {
  std::vector<std::string> out;
  for (const json& one : value) {
    out.push_back(bytes_from_json(one).value_or(std::string()));
  }
  return out;
}

}  // namespace

std::vector<std::string> process_words(pid_t pid) {
  std::vector<std::string> out;
  const auto text = read_text_if_there("/proc/" + std::to_string(pid) + "/stat");
  if (text && *text) {
    // The name, in parentheses, may hold anything.
    std::istringstream words((*text)->substr(std::min((*text)->rfind(')') + 1, (*text)->size())));
    for (std::string word; words >> word;) {
      out.push_back(std::move(word));
    }
  }
  return out;
}

std::optional<std::uint64_t> start_time_of(pid_t pid) {
  constexpr std::size_t kWord = 19;
  const std::vector<std::string> words = process_words(pid);
  return words.size() <= kWord ? std::nullopt
                               : std::optional(std::strtoull(words[kWord].c_str(), nullptr, 10));
}

json state_to_json(const ContainerState& state) {
  const RunConfig& config = state.config;
  return {{"name", state.name},
          {"pid", state.pid},
          {"daemon", state.daemon},
          {"root", bytes_to_json(state.root)},
          {"start_time", state.start_time},
          {"created", state.created},
          {"cgroups", text_list(state.cgroups)},
          {"command", text_list(config.command)},
          {"layers", text_list(config.layers)},
          {"upper", bytes_to_json(config.upper)},
          {"hostname", config.hostname},
          {"environment", text_list(config.environment)},
          {"user", bytes_to_json(config.user)},
          {"workdir", bytes_to_json(config.workdir)},
          {"capabilities", config.capabilities},
          {"seccomp", bytes_to_json(config.seccomp)},
          {"no_new_privs", config.no_new_privs},
          {"init", config.init}};
}

std::optional<ContainerState> state_from_json(const json& document) {
  try {
    ContainerState out;
    out.name = document.at("name").get<std::string>();
    out.pid = document.at("pid").get<pid_t>();
    out.daemon = document.at("daemon").get<pid_t>();
    out.root = bytes_from_json(document.at("root")).value_or(std::string());
    out.start_time = document.at("start_time").get<std::uint64_t>();
    out.created = document.at("created").get<std::int64_t>();
    out.cgroups = list_of(document.at("cgroups"));
    RunConfig& config = out.config;
    config.command = list_of(document.at("command"));
    config.layers = list_of(document.at("layers"));
    config.upper = bytes_from_json(document.at("upper")).value_or(std::string());
    config.hostname = document.at("hostname").get<std::string>();
    config.environment = list_of(document.at("environment"));
    config.user = bytes_from_json(document.at("user")).value_or(std::string());
    config.workdir = bytes_from_json(document.at("workdir")).value_or(std::string());
    config.capabilities = document.at("capabilities").get<std::uint64_t>();
    config.seccomp = bytes_from_json(document.at("seccomp")).value_or(std::string("default"));
    config.no_new_privs = document.at("no_new_privs").get<bool>();
    config.init = document.at("init").get<bool>();
    return out;
  } catch (const json::exception&) {
    return std::nullopt;
  }
}

Outcome<void> write_state(const std::string& folder, const ContainerState& state) {
  const std::string text =
      state_to_json(state).dump(2, ' ', false, json::error_handler_t::replace) + "\n";
  const std::string next = folder + kFile + ".new";
  LFS_TRY(make_text(next, text, 0600));
  if (::rename(next.c_str(), (folder + kFile).c_str()) < 0) {
    return failed("cannot make '" + folder + kFile + "': " + describe(Errno::last()));
  }
  return {};
}

Outcome<ContainerState> read_state(const std::string& name) {
  const auto missing = [&] {
    return failed("there is no running container '" + name + "'; 'layerfs-run ps' lists them");
  };
  if (!is_valid_name(name)) {
    return missing();
  }
  LFS_ASSIGN(const std::string home, state_home());
  LFS_ASSIGN(const auto text, read_text_if_there(home + "/" + name + kFile));
  if (!text) {
    return missing();
  }
  const auto state = state_from_json(json::parse(*text, nullptr, /*allow_exceptions=*/false));
  if (!state) {
    return failed("'" + home + "/" + name + kFile + "' is not understood");
  }
  return *state;
}

Outcome<std::vector<ContainerState>> running_containers() {
  LFS_ASSIGN(const std::string home, state_home());
  std::vector<ContainerState> out;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(home, error)) {
    const auto state = read_state(entry.path().filename().string());
    if (state && start_time_of(state->pid) == state->start_time) {
      out.push_back(*state);
    }
  }
  if (error) {
    return failed("cannot read '" + home + "': " + error.message());
  }
  std::sort(out.begin(), out.end(),
            [](const auto& a, const auto& b) { return a.created < b.created; });
  return out;
}

Outcome<UniqueFd> open_container(const ContainerState& state) {
  auto process = open_process(state.pid);
  // The descriptor first: from then on the number cannot come to mean another process.
  if (!process || start_time_of(state.pid) != state.start_time) {
    return failed("the container '" + state.name + "' has ended");
  }
  return std::move(*process);
}

}  // namespace layerfs::run
