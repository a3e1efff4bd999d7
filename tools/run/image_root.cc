#include "tools/run/image_root.h"

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "layers/mount_config.h"
#include "tools/common/process.h"
#include "tools/common/syntax.h"
#include "tools/run/sealed_self.h"

namespace layerfs::run {
namespace {

using nlohmann::json;

// Go writes an empty list as null.
Outcome<std::vector<std::string>> words_of(const json& config, const char* key) {
  const auto found = config.find(key);
  if (found == config.end() || found->is_null()) {
    return std::vector<std::string>{};
  }
  std::vector<std::string> out;
  for (const json& one : *found) {
    if (!found->is_array() || !one.is_string()) {
      return failed(std::string("the image's config has no list of words as ") + key);
    }
    out.push_back(one.get<std::string>());
  }
  return out;
}

Outcome<std::string> word_of(const json& config, const char* key) {
  const auto found = config.find(key);
  if (found == config.end() || found->is_null()) {
    return std::string();
  }
  if (!found->is_string()) {
    return failed(std::string("the image's config has no word as ") + key);
  }
  return found->get<std::string>();
}

Outcome<void> apply_command(RunConfig& config, const json& image) {
  LFS_ASSIGN(std::vector<std::string> command, words_of(image, "Entrypoint"));
  LFS_ASSIGN(std::vector<std::string> arguments, words_of(image, "Cmd"));
  if (config.entrypoint) {
    command = {*config.entrypoint};
    arguments.clear();
  }
  if (!config.command.empty()) {
    arguments = config.command;
  }
  command.insert(command.end(), arguments.begin(), arguments.end());
  if (command.empty()) {
    return usage_error("no COMMAND, and the image has none");
  }
  config.command = std::move(command);
  return {};
}

}  // namespace

Outcome<std::string> default_store() {
  if (::geteuid() == 0) {
    return std::string("/var/lib/layerfs/store");
  }
  for (const auto& [variable, below] :
       {std::pair{"XDG_DATA_HOME", "/layerfs/store"}, {"HOME", "/.local/share/layerfs/store"}}) {
    const char* folder = std::getenv(variable);  // NOLINT(concurrency-mt-unsafe): one thread
    if (folder != nullptr && *folder == '/') {
      return std::string(folder) + below;
    }
  }
  return failed(
      "no place to unpack the image: neither $XDG_DATA_HOME nor $HOME is set; --store "
      "names one");
}

Outcome<void> apply_image(RunConfig& config, const json& unpacked) {
  const auto stack = unpacked.find("stack");
  const auto image = unpacked.find("config");
  const bool whole = stack != unpacked.end() && image != unpacked.end() && image->is_object();
  const auto layers = whole ? bytes_from_json(*stack) : std::nullopt;
  if (!layers) {
    return failed("layerfs unpack told nothing that is understood; are both of one version?");
  }
  LFS_ASSIGN(const std::vector<std::string> below, split_layers(*layers));
  config.layers.insert(config.layers.end(), below.begin(), below.end());
  LFS_TRY(apply_command(config, *image));
  LFS_ASSIGN(const std::vector<std::string> environment, words_of(*image, "Env"));
  config.environment.insert(config.environment.begin(), environment.begin(), environment.end());
  if (config.workdir.empty()) {
    LFS_ASSIGN(config.workdir, word_of(*image, "WorkingDir"));
    config.make_workdir = !config.workdir.empty();
  }
  if (config.user.empty()) {
    LFS_ASSIGN(config.user, word_of(*image, "User"));
  }
  return {};
}

Outcome<void> use_image(RunConfig& config) {
  if (config.store.empty()) {
    LFS_ASSIGN(config.store, default_store());
  }
  std::error_code error;
  std::filesystem::create_directories(config.store, error);
  if (error) {
    return failed("cannot make '" + config.store + "': " + error.message());
  }
  LFS_ASSIGN(const std::string program, find_own_program("layerfs"));
  LFS_ASSIGN(const Finished done, run_to_end({program, "unpack", config.image, config.store,
                                              "--json", "--progress", "none"}));
  if (done.status != 0) {
    std::string why = done.error_text;
    while (why.ends_with('\n')) {
      why.pop_back();
    }
    return failed(why.empty() ? "layerfs unpack " + describe_wait_status(done.status) : why);
  }
  if (::write(STDERR_FILENO, done.error_text.data(), done.error_text.size()) < 0) {
    return failed("cannot write to standard error: " + describe(Errno::last()));
  }
  return apply_image(config, json::parse(done.output, nullptr, /*allow_exceptions=*/false));
}

}  // namespace layerfs::run
