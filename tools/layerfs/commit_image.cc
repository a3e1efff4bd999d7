#include "tools/layerfs/commit_image.h"

#include <nlohmann/json.hpp>

#include "layers/mount_config.h"
#include "tools/common/interrupt.h"
#include "tools/layerfs/estimate.h"
#include "tools/layerfs/fallible.h"
#include "tools/layerfs/tell_losses.h"
#include "tools/oci/image_build.h"

namespace layerfs {
namespace {

// The bottom one first. Of a base the lowers are in it already.
Outcome<oci::LossList> add_layers(oci::ImageBuilder& builder, const CommitOptions& options,
                                  const OpenLayers& layers, Instant& instant,
                                  const oci::PackOptions& pack) {
  oci::LossList losses;
  const auto add = [&](const MergedView& before, const MergedView& now,
                       bool last) -> Outcome<void> {
    oci::PackOptions one = pack;
    if (last) {
      // What is below does not change.
      read_shortly(one, instant);
      LFS_TRY(instant.begin());
    }
    LFS_ASSIGN(const oci::Packed packed, to_outcome(builder.add_layer(before, now, one, last)));
    return to_outcome(packed.losses.for_each(
        [&losses](const oci::Loss& loss) { return losses.add(loss.path, loss.what); }));
  };
  const LayerIndex all = layers.stack().size();
  if (options.squash) {
    LFS_ASSIGN(const MergedView nothing, layers.below(all));
    LFS_TRY(add(nothing, layers.now(), true));
    return losses;
  }
  for (LayerIndex i = all; !options.base && i > layers.upper_count(); --i) {
    LFS_ASSIGN(const MergedView before, layers.below(i));
    LFS_ASSIGN(const MergedView now, layers.below(static_cast<LayerIndex>(i - 1)));
    LFS_TRY(add(before, now, false));
  }
  LFS_TRY(add(layers.before(), layers.now(), true));
  return losses;
}

void tell_image(const oci::ImageReference& reference, const oci::BuiltImage& image, bool json,
                std::ostream& out) {
  if (!json) {
    out << reference.text() << ": " << image.layers.size()
        << (image.layers.size() == 1 ? " layer" : " layers") << '\n'
        << "digest  " << image.manifest.digest.text() << '\n'
        << "id      " << image.config.digest.text() << '\n';
    return;
  }
  nlohmann::json document = {{"image", bytes_to_json(reference.text())},
                             {"digest", image.manifest.digest.text()},
                             {"id", image.config.digest.text()},
                             {"layers", nlohmann::json::array()}};
  for (const oci::ImageLayer& layer : image.layers) {
    document["layers"].push_back({{"digest", layer.digest->text()},
                                  {"diff_id", layer.diff_id.text()},
                                  {"media_type", oci::layer_media_type(layer.codec)},
                                  {"size", layer.size}});
  }
  out << document.dump() << '\n';
}

}  // namespace

Outcome<void> judge_losses(const oci::LossList& losses, bool strict, const Streams& streams) {
  LFS_TRY(tell_losses(losses, "commit: not in the layer", streams));
  if (strict && !losses.empty()) {
    return failed("the layer cannot carry " + std::to_string(losses.size()) +
                  (losses.size() == 1 ? " thing" : " things") +
                  " listed above; nothing was written");
  }
  return {};
}

void read_shortly(oci::PackOptions& pack, Instant& instant) {
  if (instant.is_short()) {
    pack.when_read = [&instant]() -> oci::Fallible<void> {
      const auto ended = instant.end();
      return ended ? oci::Fallible<void>() : Failure{ended.error().message};
    };
  }
}

Outcome<void> commit_image(const CommitOptions& options, const OpenLayers& layers, Instant& instant,
                           oci::PackOptions pack, Progress& progress, const Streams& streams) {
  pack.compression = options.compression.value_or(oci::Compression{});
  std::optional<oci::ImageSource> base;
  if (options.base) {
    LFS_ASSIGN(base, to_outcome(oci::ImageSource::open(*options.base)));
  }
  LFS_ASSIGN(const auto writer, to_outcome(oci::ImageWriter::create(*options.image)));
  oci::ImageBuilder builder(*writer);
  if (base) {
    progress.start("copying the base", 0);
    LFS_TRY(to_outcome(builder.take_base(*base, options.squash, pack.writer.progress)));
    progress.finish();
  }
  const bool only_upper = options.base && !options.squash;
  progress.start("committing",
                 estimate_bytes(progress, layers.stack(),
                                only_upper ? layers.upper_count() : layers.stack().size()));
  LFS_ASSIGN(const oci::LossList losses, add_layers(builder, options, layers, instant, pack));
  progress.finish();
  LFS_TRY(judge_losses(losses, options.strict, streams));
  oci::ImageNotes notes = options.notes;
  notes.created = options.timestamp ? options.timestamp : pack.writer.times.latest;
  if (InterruptGuard::interrupted()) {
    return failed("interrupted; nothing was written");
  }
  LFS_ASSIGN(const oci::BuiltImage image, to_outcome(builder.finish(notes)));
  tell_image(*options.image, image, options.json, streams.out);
  return {};
}

}  // namespace layerfs
