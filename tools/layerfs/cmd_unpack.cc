#include <fcntl.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "layers/mount_config.h"
#include "tools/common/interrupt.h"
#include "tools/common/progress.h"
#include "tools/common/syntax.h"
#include "tools/layerfs/commands.h"
#include "tools/layerfs/fallible.h"
#include "tools/layerfs/mark_options.h"
#include "tools/layerfs/tell_losses.h"
#include "tools/oci/image_source.h"
#include "tools/oci/layer_store.h"

namespace layerfs {
namespace {

// Each takes some MiB of memory.
constexpr unsigned kMostByDefault = 4;

constexpr int kMostThreads = 256;
// More than any image in use has; a bomb has more.
constexpr std::uint64_t kUsualLimit = 64ULL << 30;
constexpr std::uint64_t kMostEntries = 20'000'000;

struct UnpackOptions {
  std::optional<std::string> name;
  oci::StoreUnpackOptions store{
      .marks = {},
      .override_stat = {},
      .limits = {kUsualLimit, kMostEntries},
      .threads = std::clamp(std::thread::hardware_concurrency(), 1U, kMostByDefault),
      .strict = false,
      .sync = true,
      .progress = {}};
  MarkChoice marks;
  bool json = false;
  ProgressMode progress = ProgressMode::Auto;
};

Option switch_option(std::string name, std::string help, bool& target, bool value) {
  return {.name = std::move(name),
          .help = std::move(help),
          .apply = [&target, value](std::string_view) -> Outcome<void> {
            target = value;
            return {};
          }};
}

OptionGroup form_group(UnpackOptions& options) {
  return {"How layers are stored",
          {whiteout_option(options.marks),
           override_stat_option(options.marks),
           {.name = "limit",
            .value = "SIZE",
            .help = "The most bytes that the files of one layer may have. Default: 64G.",
            .apply = [&options](std::string_view text) -> Outcome<void> {
              LFS_ASSIGN(const std::uint64_t bytes, parse_size(text));
              if (bytes == 0) {
                return usage_error("no layer fits into 0 bytes");
              }
              options.store.limits.bytes = bytes;
              return {};
            }},
           switch_option("strict",
                         "Fail if the store cannot hold something (an attribute, say), which "
                         "otherwise is listed.",
                         options.store.strict, true),
           switch_option("volatile", "Do not wait for disks.", options.store.sync, false)}};
}

Command command_for(UnpackOptions& options) {
  OptionGroup general{
      "Options",
      {{.name = "name",
        .value = "NAME",
        .help = "What the store knows the image by. Default: as it is given here.",
        .apply = [&options](std::string_view text) -> Outcome<void> {
          options.name = std::string(text);
          return {};
        }},
       {.name = "threads",
        .value = "N",
        .help = "Layers unpacked at a time. Default: one a core, at most 4.",
        .apply = [&options](std::string_view text) -> Outcome<void> {
          LFS_ASSIGN(const int threads, parse_int(text, 1, kMostThreads));
          options.store.threads = static_cast<unsigned>(threads);
          return {};
        }},
       switch_option("json", "Print what is there as one JSON document.", options.json, true),
       progress_option(options.progress)}};
  return Command{
      .program = "layerfs unpack",
      .usage = {"IMAGE STORE [OPTION...]", "LAYER.tar[.gz|.zst]... STORE [OPTION...]"},
      .summary =
          "Unpacks the layers of an image, each into a directory of STORE, and prints the "
          "--layers option for layerfs mount. IMAGE is oci:DIR[:TAG], oci-archive:FILE[:TAG] or "
          "docker-archive:FILE[:NAME[:TAG]]; of LAYERs the bottom one comes first.",
      .groups = {general, form_group(options)},
      .notes =
          "Layers that STORE has are not unpacked again, whatever image they came with. An\n"
          "archive that tries to lead outside of its directory is refused.",
  };
}

struct Requested {
  std::string name;
  std::vector<oci::LayerRequest> layers;
  std::uint64_t bytes = 0;
  std::shared_ptr<const oci::ImageSource> image;
};

Outcome<Requested> request_image(const oci::ImageReference& reference) {
  LFS_ASSIGN(auto source, to_outcome(oci::ImageSource::open(reference)));
  Requested out;
  out.name = reference.text();
  const auto image = std::make_shared<const oci::ImageSource>(std::move(source));
  out.image = image;
  for (std::size_t i = 0; i < image->image().layers.size(); ++i) {
    const oci::ImageLayer& layer = image->image().layers[i];
    out.bytes += layer.size;
    out.layers.push_back({"layer " + std::to_string(i + 1) + " of " + out.name, layer.diff_id,
                          [image, i] { return image->open_layer(i); }});
  }
  return out;
}

Outcome<Requested> request_files(std::span<const std::string> files) {
  Requested out;
  for (const std::string& file : files) {
    auto fd = sys::open_path(file, O_RDONLY | O_NONBLOCK);
    const auto st = fd ? sys::stat_at({fd->get()}) : Result<struct statx>(fd.error());
    if (!st || !S_ISREG(st->stx_mode)) {
      return failed("'" + file + "': " +
                    (st ? "is no file; an image begins with oci:, oci-archive: or docker-archive:"
                        : describe(st.error())));
    }
    const oci::Extent extent{share(std::move(*fd)), 0, st->stx_size, file};
    out.bytes += extent.size;
    out.name += (out.name.empty() ? "" : " ") + file;
    out.layers.push_back(
        {file, std::nullopt, [extent]() -> oci::Fallible<std::unique_ptr<oci::ByteSource>> {
           return std::unique_ptr<oci::ByteSource>(std::make_unique<oci::ExtentSource>(extent));
         }});
  }
  return out;
}

Outcome<Requested> request(std::span<const std::string> words) {
  if (const auto reference = oci::parse_image_reference(words[0])) {
    if (words.size() > 1) {
      return usage_error("'" + words[1] + "' follows an image; one image is unpacked at a time");
    }
    return request_image(*reference);
  }
  return request_files(words);
}

// As a layer list is written.
std::string escape_path(const std::string& path) {
  std::string out;
  for (const char c : path) {
    out += c == ':' || c == '\\' ? std::string{'\\', c} : std::string{c};
  }
  return out;
}

Outcome<void> tell(const std::string& name, const std::vector<oci::StoredLayer>& layers,
                   const oci::ImageSource* image, bool json, const Streams& streams) {
  for (const oci::StoredLayer& layer : layers) {
    LFS_TRY(tell_losses(layer.losses, "unpack: not in the store", streams));
  }
  std::string stack;
  for (auto layer = layers.rbegin(); layer != layers.rend(); ++layer) {
    stack += (stack.empty() ? "" : ":") + escape_path(layer->path);
  }
  if (!json) {
    streams.out << "--layers " << stack << '\n';
    return {};
  }
  nlohmann::json document = {{"name", bytes_to_json(name)},
                             {"stack", bytes_to_json(stack)},
                             {"layers", nlohmann::json::array()}};
  for (const oci::StoredLayer& layer : layers) {
    document["layers"].push_back({{"path", bytes_to_json(layer.path)},
                                  {"diff_id", layer.diff_id.text()},
                                  {"bytes", layer.bytes},
                                  {"entries", layer.entries},
                                  {"lost", layer.loss_count},
                                  {"reused", layer.was_there}});
  }
  if (image != nullptr) {
    document["config"] = image->image().config.value("config", nlohmann::json::object());
  }
  streams.out << document.dump() << '\n';
  return {};
}

Outcome<void> run(const std::vector<std::string>& positionals, UnpackOptions& options,
                  const Streams& streams) {
  if (positionals.size() < 2) {
    return usage_error(positionals.empty() ? "no image is given" : "no store is given");
  }
  const std::span<const std::string> words(positionals.data(), positionals.size() - 1);
  LFS_ASSIGN(Requested wanted, request(words));
  const auto poll = []() -> oci::Fallible<void> {
    return InterruptGuard::interrupted()
               ? oci::Fallible<void>(Failure{"interrupted; layers that were complete are kept"})
               : oci::Fallible<void>();
  };
  const std::string path = std::filesystem::absolute(positionals.back()).lexically_normal();
  LFS_ASSIGN(oci::LayerStore store,
             to_outcome(oci::LayerStore::open(path, oci::LayerStore::Access::Add, poll)));
  Progress progress(streams.err, options.progress, streams.err_is_terminal);
  options.store.progress = [&](std::uint64_t bytes) -> oci::Fallible<void> {
    LFS_TRY(poll());
    progress.add(bytes);
    return {};
  };
  options.store.marks.form = options.marks.form;
  options.store.override_stat = options.marks.override_stat;
  progress.start("unpacking", wanted.bytes);
  LFS_ASSIGN(const std::vector<oci::StoredLayer> layers,
             to_outcome(store.provide(wanted.layers, options.store)));
  progress.finish();
  oci::StoredImage image{options.name.value_or(wanted.name), {}};
  for (const oci::StoredLayer& layer : layers) {
    image.layers.push_back(layer.key);
  }
  LFS_TRY(to_outcome(store.set_image(image)));
  return tell(image.name, layers, wanted.image.get(), options.json, streams);
}

}  // namespace

Command describe_unpack() {
  static UnpackOptions unused;
  return command_for(unused);
}

int cmd_unpack(Arguments arguments, const Streams& streams, const Environment& /*environment*/) {
  UnpackOptions options;
  return run_command(command_for(options), arguments, streams, OnSignal::CleanUp,
                     [&](const std::vector<std::string>& positionals) {
                       return run(positionals, options, streams);
                     });
}

}  // namespace layerfs
