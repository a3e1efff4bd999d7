#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "layers/mount_config.h"
#include "tools/common/interrupt.h"
#include "tools/common/layer_users.h"
#include "tools/common/progress.h"
#include "tools/layerfs/commands.h"
#include "tools/layerfs/fallible.h"
#include "tools/oci/layer_store.h"

namespace layerfs {
namespace {

using Access = oci::LayerStore::Access;

struct StoreOptions {
  bool json = false;
  bool dry_run = false;
};

Command command_for(StoreOptions& options) {
  return Command{
      .program = "layerfs store",
      .usage = {"ls STORE [--json]", "du STORE [--json]", "rm STORE NAME... [OPTION...]",
                "gc STORE [OPTION...]"},
      .summary =
          "Shows and removes what layerfs unpack has put into STORE: ls lists the images and the "
          "layers, du how much they take and share, rm forgets images, gc removes the layers "
          "that no image needs.",
      .groups = {{"Options",
                  {flag("dry-run", "(rm, gc) Only say what would be removed.", options.dry_run),
                   flag("json", "Print JSON.", options.json)}}},
      .notes = "gc leaves layers that are in use by a mount or another process that it can see.",
  };
}

oci::Fallible<void> poll() {
  return InterruptGuard::interrupted() ? oci::Fallible<void>(Failure{"interrupted"})
                                       : oci::Fallible<void>();
}

std::string absolute(const std::string& path) {
  std::string out = std::filesystem::absolute(path).lexically_normal();
  while (out.size() > 1 && out.ends_with('/')) {
    out.pop_back();
  }
  return out;
}

// What is in the store, and who needs it.
struct Contents {
  std::vector<oci::StoredImage> images;
  std::map<std::string, oci::StoredLayer> layers;
  std::map<std::string, std::set<std::string>> users;  // names by key

  static Outcome<Contents> read(const oci::LayerStore& store) {
    Contents out;
    LFS_ASSIGN(out.images, to_outcome(store.images()));
    LFS_ASSIGN(auto layers, to_outcome(store.layers()));
    for (oci::StoredLayer& layer : layers) {
      out.layers.emplace(layer.key, std::move(layer));
    }
    for (const oci::StoredImage& image : out.images) {
      for (const std::string& key : image.layers) {
        out.users[key].insert(image.name);
      }
    }
    return out;
  }
  std::size_t references(const std::string& key) const {
    const auto found = users.find(key);
    return found == users.end() ? 0 : found->second.size();
  }
  // Of an image: all its layers, and those that nothing else needs.
  struct Size {
    std::uint64_t all = 0;
    std::uint64_t own = 0;
  };
  Size size_of(const oci::StoredImage& image) const {
    Size out;
    for (const std::string& key : std::set(image.layers.begin(), image.layers.end())) {
      const auto layer = layers.find(key);
      if (layer != layers.end()) {
        out.all += layer->second.bytes;
        out.own += references(key) == 1 ? layer->second.bytes : 0;
      }
    }
    return out;
  }
};

nlohmann::json layer_json(const Contents& contents, const oci::StoredLayer& layer) {
  return {{"path", bytes_to_json(layer.path)},
          {"diff_id", layer.diff_id.text()},
          {"bytes", layer.bytes},
          {"entries", layer.entries},
          {"references", contents.references(layer.key)}};
}

void list(const Contents& contents, bool json, std::ostream& out) {
  if (json) {
    nlohmann::json document = {{"images", nlohmann::json::array()},
                               {"layers", nlohmann::json::array()}};
    for (const oci::StoredImage& image : contents.images) {
      nlohmann::json paths = nlohmann::json::array();
      for (const std::string& key : image.layers) {
        const auto layer = contents.layers.find(key);
        paths.push_back(layer == contents.layers.end() ? nlohmann::json()
                                                       : bytes_to_json(layer->second.path));
      }
      document["images"].push_back({{"name", bytes_to_json(image.name)}, {"layers", paths}});
    }
    for (const auto& [key, layer] : contents.layers) {
      document["layers"].push_back(layer_json(contents, layer));
    }
    out << document.dump() << '\n';
    return;
  }
  for (const oci::StoredImage& image : contents.images) {
    out << "image  " << image.name << "  (" << image.layers.size()
        << (image.layers.size() == 1 ? " layer, " : " layers, ")
        << format_bytes(contents.size_of(image).all) << ")\n";
  }
  for (const auto& [key, layer] : contents.layers) {
    const std::size_t count = contents.references(key);
    out << "layer  " << layer.path << "  (" << format_bytes(layer.bytes) << ", "
        << (count == 0 ? std::string("unused")
                       : "in " + std::to_string(count) + (count == 1 ? " image" : " images"))
        << ")\n";
  }
}

void tell_sizes(const Contents& contents, bool json, std::ostream& out) {
  std::uint64_t all = 0;
  std::uint64_t unused = 0;
  for (const auto& [key, layer] : contents.layers) {
    all += layer.bytes;
    unused += contents.references(key) == 0 ? layer.bytes : 0;
  }
  if (json) {
    nlohmann::json document = {
        {"bytes", all}, {"unused", unused}, {"images", nlohmann::json::array()}};
    for (const oci::StoredImage& image : contents.images) {
      const auto size = contents.size_of(image);
      document["images"].push_back(
          {{"name", bytes_to_json(image.name)}, {"bytes", size.all}, {"own", size.own}});
    }
    out << document.dump() << '\n';
    return;
  }
  for (const oci::StoredImage& image : contents.images) {
    const auto size = contents.size_of(image);
    out << format_bytes(size.all) << "  (" << format_bytes(size.own) << " its own)  " << image.name
        << '\n';
  }
  out << format_bytes(all) << "  in all, " << format_bytes(unused) << " of it unused\n";
}

// Of the processes, what this user may not look at he cannot hold: the store is closed to
// others, and root may look at all.
Outcome<std::set<DirectoryId>> used_directories() {
  std::set<DirectoryId> used;
  LFS_TRY(visit_overlay_layers(
      [&used](const std::string& /*mount_point*/, const DirectoryId& id) { used.insert(id); }));
  visit_open_directories([&used](pid_t /*process*/, const DirectoryId& id) {
    used.insert(id);
    return true;
  });
  return used;
}

Outcome<void> collect(oci::LayerStore& store, const StoreOptions& options, const Streams& streams) {
  LFS_ASSIGN(const Contents contents, Contents::read(store));
  LFS_ASSIGN(const std::set<DirectoryId> used, used_directories());
  std::uint64_t freed = 0;
  nlohmann::json removed = nlohmann::json::array();
  for (const auto& [key, layer] : contents.layers) {
    if (contents.references(key) > 0) {
      continue;
    }
    const auto directory = directory_id(layer.path);
    if (directory && used.contains(*directory)) {
      streams.err << "layerfs: store: '" << layer.path << "' is in use, and stays\n";
      continue;
    }
    LFS_TRY(to_outcome(poll()));
    if (!options.dry_run) {
      LFS_TRY(to_outcome(store.remove_layer(key)));
    }
    freed += layer.bytes;
    removed.push_back(layer_json(contents, layer));
    if (!options.json) {
      streams.out << (options.dry_run ? "would remove " : "removed ") << layer.path << '\n';
    }
  }
  if (!options.dry_run) {
    LFS_TRY(to_outcome(store.clean_temporary()));
  }
  if (options.json) {
    streams.out << nlohmann::json{{"removed", removed}, {"bytes", freed}}.dump() << '\n';
  } else {
    streams.out << format_bytes(freed) << (options.dry_run ? " would be freed\n" : " freed\n");
  }
  return {};
}

Outcome<void> forget(oci::LayerStore& store, std::span<const std::string> names,
                     const StoreOptions& options, const Streams& streams) {
  LFS_ASSIGN(const Contents contents, Contents::read(store));
  for (const std::string& name : names) {
    const bool known = std::any_of(contents.images.begin(), contents.images.end(),
                                   [&](const auto& image) { return image.name == name; });
    if (!known) {
      return failed("the store has no image '" + name + "'; layerfs store ls shows those it has");
    }
  }
  for (const std::string& name : names) {
    if (!options.dry_run) {
      LFS_TRY(to_outcome(store.remove_image(name)));
    }
    if (!options.json) {
      streams.out << (options.dry_run ? "would forget " : "forgot ") << name << '\n';
    }
  }
  if (options.json) {
    streams.out
        << nlohmann::json{{"removed", std::vector<std::string>(names.begin(), names.end())}}.dump()
        << '\n';
  }
  return {};
}

Outcome<void> run(const std::vector<std::string>& positionals, const StoreOptions& options,
                  const Streams& streams) {
  const std::string verb = positionals.empty() ? "" : positionals[0];
  const bool removes = verb == "rm" || verb == "gc";
  if (!removes && verb != "ls" && verb != "du") {
    return usage_error(verb.empty() ? "one of ls, rm, gc, du is expected"
                                    : "'" + verb + "' is not one of ls, rm, gc, du");
  }
  if (positionals.size() < 2) {
    return usage_error("no store is given");
  }
  if (verb == "rm" ? positionals.size() < 3 : positionals.size() > 2) {
    return usage_error(verb == "rm" ? "no image is named"
                                    : "unexpected argument '" + positionals[2] + "'");
  }
  if (options.dry_run && !removes) {
    return usage_error("--dry-run is for rm and gc");
  }
  LFS_ASSIGN(oci::LayerStore store,
             to_outcome(oci::LayerStore::open(absolute(positionals[1]),
                                              removes ? Access::Remove : Access::Read, poll)));
  if (verb == "gc") {
    return collect(store, options, streams);
  }
  if (verb == "rm") {
    return forget(store, std::span(positionals).subspan(2), options, streams);
  }
  LFS_ASSIGN(const Contents contents, Contents::read(store));
  if (verb == "ls") {
    list(contents, options.json, streams.out);
  } else {
    tell_sizes(contents, options.json, streams.out);
  }
  return {};
}

}  // namespace

Command describe_store() {
  static StoreOptions unused;
  return command_for(unused);
}

int cmd_store(Arguments arguments, const Streams& streams, const Environment& /*environment*/) {
  StoreOptions options;
  return run_command(command_for(options), arguments, streams, OnSignal::CleanUp,
                     [&](const std::vector<std::string>& positionals) {
                       return run(positionals, options, streams);
                     });
}

}  // namespace layerfs
