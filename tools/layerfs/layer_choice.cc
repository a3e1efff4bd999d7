#include "tools/layerfs/layer_choice.h"

#include <fcntl.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "layers/mount_config.h"
#include "tools/common/control_client.h"
#include "tools/common/syntax.h"
#include "tools/run/container_root.h"
#include "tools/run/places.h"

namespace layerfs {
namespace {

Outcome<std::string> text_of(const nlohmann::json& stats, const char* key) {
  const auto found = stats.find(key);
  const auto text = found == stats.end() ? std::nullopt : bytes_from_json(*found);
  if (!text) {
    return failed(std::string("the daemon does not say its '") + key +
                  "'; are layerfs and layerfsd of one version?");
  }
  return *text;
}

// What was written through the mount may still be in the kernel's cache only.
Outcome<void> write_back(const std::string& mount_point) {
  const auto fd = sys::open_path(mount_point, O_RDONLY | O_DIRECTORY);
  const auto written = fd ? sys::syncfs_fd(fd->get()) : Status(fd.error());
  return written ? Outcome<void>()
                 : failed("'" + mount_point +
                          "': cannot have it written back: " + describe(written.error()));
}

Outcome<MergedView> view_of(const LayerStack& stack, ViewRange range) {
  auto made = MergedView::open(stack, range);
  if (!made) {
    return failed("cannot read the roots of the layers: " + describe(made.error()));
  }
  return std::move(*made);
}

Outcome<LayerChoice> layers_of_mount(const Located& located) {
  LFS_TRY(write_back(located.path));
  LFS_ASSIGN(const nlohmann::json stats,
             ask_daemon_json(located.mount, {.line = R"({"cmd":"stats"})"}));
  LayerChoice choice;
  choice.mount = located.mount;
  choice.mount_path = located.path;
  LFS_ASSIGN(const std::string upper, text_of(stats, "upper"));
  if (upper.empty()) {
    return failed("'" + located.path + "' is mounted without an upper, so nothing has changed");
  }
  choice.uppers.push_back(upper);
  LFS_ASSIGN(choice.work, text_of(stats, "work"));
  const auto lowers = stats.find("lowers");
  if (lowers == stats.end() || !lowers->is_array()) {
    return failed("the daemon does not say its lowers; are layerfs and layerfsd of one version?");
  }
  for (const auto& item : *lowers) {
    const auto lower = bytes_from_json(item);
    if (!lower) {
      return failed("the daemon's list of lowers is not readable");
    }
    choice.lowers.push_back(*lower);
  }
  return choice;
}

// Two names of one directory are one layer.
bool same_layer(const std::string& a, const std::string& b) {
  std::error_code error;
  return a == b || std::filesystem::equivalent(a, b, error);
}

Problem to_problem(const Failure& failure) { return failed(failure.message); }

}  // namespace

Option lower_option(LayerWords& words, std::string help) {
  return {.name = "lower",
          .value = "LOWER[:LOWER...]",
          .help = std::move(help),
          .apply = [&words](std::string_view text) -> Outcome<void> {
            LFS_ASSIGN(words.lowers, split_layers(text));
            return {};
          }};
}

Option work_option(std::optional<std::string>& work, std::string help) {
  return {.name = "work",
          .value = "DIR",
          .help = std::move(help),
          .apply = [&work](std::string_view text) -> Outcome<void> {
            work = std::string(text);
            return {};
          }};
}

Outcome<LayerChoice> choose_layers(const std::string& word, const LayerWords& words) {
  const auto located = locate(word, LastComponent::Follow);
  if (located && located->is_mount_point && is_layerfs(located->mount)) {
    if (!words.lowers.empty() || words.work) {
      return usage_error("'" + word +
                         "' is a mount point and knows its layers; leave out --lower " +
                         "and --work, or name the upper directory");
    }
    return layers_of_mount(*located);
  }
  if (!located && words.lowers.empty() && !words.work && run::is_valid_name(word)) {
    const auto root = run::join_root(word);
    return root ? layers_of_mount(*root)
                : Outcome<LayerChoice>(
                      failed(located.error().message + "; " + root.error().message));
  }
  if (!located) {
    return located.error();
  }
  LayerChoice choice;
  LFS_ASSIGN(choice.uppers, split_layers(word));
  choice.lowers = words.lowers;
  choice.work_is_default = !words.work;
  choice.work = words.work.value_or(default_work_dir(choice.uppers.front()));
  return choice;
}

Outcome<LayerChoice> choose_between(const std::string& before, const std::string& now,
                                    const std::optional<std::string>& work,
                                    std::vector<std::string>& before_layers) {
  LayerChoice choice;
  LFS_ASSIGN(choice.uppers, split_layers(now));
  choice.work_is_default = !work;
  choice.work = work.value_or(default_work_dir(choice.uppers.front()));
  LFS_ASSIGN(before_layers, split_layers(before));
  const bool on_top =
      before_layers.size() <= choice.uppers.size() &&
      std::equal(before_layers.rbegin(), before_layers.rend(), choice.uppers.rbegin(), same_layer);
  if (on_top) {
    choice.lowers = std::move(before_layers);
    before_layers.clear();
    choice.uppers.resize(choice.uppers.size() - choice.lowers.size());
  }
  return choice;
}

Outcome<std::unique_ptr<OpenLayers>> OpenLayers::open(const LayerChoice& choice,
                                                      const std::vector<std::string>& before) {
  auto open = std::make_unique<OpenLayers>();
  StackOptions options;
  options.lowers = choice.uppers;
  options.lowers.insert(options.lowers.end(), choice.lowers.begin(), choice.lowers.end());
  auto stack = LayerStack::open(options);
  if (!stack) {
    return to_problem(stack.error());
  }
  open->stack_ = std::move(*stack);
  open->uppers_ = static_cast<LayerIndex>(choice.uppers.size());
  if (!choice.work.empty()) {
    // The directory is the user's word; what is in it may be somebody else's symlink.
    const auto work = sys::open_path(choice.work, O_PATH | O_DIRECTORY);
    auto index = work ? sys::open_at({work->get(), kLinkIndexName}, O_RDONLY | O_DIRECTORY)
                      : Result<UniqueFd>(work.error());
    if (index) {
      open->index_ = std::move(*index);
    } else if (!choice.work_is_default || !is_absence(index.error())) {
      return failed("work directory '" + choice.work + "': " + describe(index.error()) +
                    "; name with --work the one that the upper was mounted with");
    }
  }
  LFS_TRY(open->look_again());
  if (before.empty()) {
    LFS_ASSIGN(open->before_, view_of(*open->stack_, {open->uppers_, -1}));
    return open;
  }
  StackOptions other;
  other.lowers = before;
  auto other_stack = LayerStack::open(other);
  if (!other_stack) {
    return to_problem(other_stack.error());
  }
  open->before_stack_ = std::move(*other_stack);
  LFS_ASSIGN(open->before_, view_of(*open->before_stack_, {0, -1}));
  return open;
}

Outcome<void> OpenLayers::look_again() {
  LFS_ASSIGN(now_, view_of(*stack_, {0, index_ ? index_.get() : -1}));
  return {};
}

Outcome<MergedView> OpenLayers::below(LayerIndex first) const {
  return view_of(*stack_, {first, -1});
}

}  // namespace layerfs
