#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <thread>

#include "layers/mount_config.h"
#include "tools/common/interrupt.h"
#include "tools/layerfs/commands.h"
#include "tools/layerfs/commit_image.h"
#include "tools/layerfs/commit_options.h"
#include "tools/layerfs/estimate.h"
#include "tools/layerfs/fallible.h"
#include "tools/oci/output_file.h"
#include "tools/oci/pack.h"

namespace layerfs {
namespace {

// An upper that is mounted changes under the reader.
Outcome<UniqueFd> hold_upper(const LayerChoice& choice) {
  auto fd = sys::open_path(choice.uppers.front(), O_RDONLY | O_DIRECTORY);
  if (!fd) {
    return failed("upper directory '" + choice.uppers.front() + "': " + describe(fd.error()));
  }
  const auto locked = sys::try_lock_shared(fd->get());
  if (!locked) {
    return failed("upper directory '" + choice.uppers.front() +
                  "': cannot lock it: " + describe(locked.error()));
  }
  if (!*locked) {
    return failed("upper directory '" + choice.uppers.front() +
                  "' is in use by a mount; name the mount point, so that all that was written is "
                  "committed");
  }
  return std::move(*fd);
}

Outcome<oci::PackOptions> pack_options(const CommitOptions& options, Progress& progress) {
  oci::PackOptions pack;
  LFS_ASSIGN(pack.writer.times.latest, source_date_epoch());
  pack.writer.times.exact = options.timestamp;
  pack.writer.times.whole_seconds = options.whole_seconds;
  LFS_ASSIGN(pack.writer.unmapped_uid,
             to_outcome(oci::unmapped_id("/proc/self/uid_map", "/proc/sys/kernel/overflowuid")));
  LFS_ASSIGN(pack.writer.unmapped_gid,
             to_outcome(oci::unmapped_id("/proc/self/gid_map", "/proc/sys/kernel/overflowgid")));
  pack.writer.without_content = options.empty;
  std::sort(pack.writer.without_content.begin(), pack.writer.without_content.end());
  pack.explicit_whiteouts = options.explicit_whiteouts;
  pack.threads = options.threads > 0 ? static_cast<unsigned>(options.threads)
                                     : std::max(std::thread::hardware_concurrency(), 1U);
  pack.writer.progress = [&progress](std::uint64_t bytes) -> oci::Fallible<void> {
    if (InterruptGuard::interrupted()) {
      return Failure{"interrupted; nothing was written"};
    }
    progress.add(bytes);
    return {};
  };
  return pack;
}

void tell_layer(const std::string& name, const oci::Packed& packed, bool json, std::ostream& out) {
  const oci::LayerInfo& info = packed.info;
  if (json) {
    nlohmann::json document = {{"layer", bytes_to_json(name)},
                               {"digest", info.digest.text()},
                               {"diff_id", info.diff_id.text()},
                               {"media_type", oci::layer_media_type(info.codec)},
                               {"size", info.bytes},
                               {"tar_size", info.tar_bytes},
                               {"entries", packed.entries}};
    out << document.dump() << '\n';
    return;
  }
  out << name << ": " << packed.entries << " entries, " << info.bytes << " bytes\n"
      << "digest  " << info.digest.text() << '\n'
      << "diff id " << info.diff_id.text() << '\n';
}

Outcome<void> commit_layer(const CommitOptions& options, const OpenLayers& layers, Instant& instant,
                           oci::PackOptions pack, Progress& progress, const Streams& streams) {
  const std::string& name = *options.output;
  pack.compression =
      options.compression.value_or(oci::Compression{oci::codec_of_name(name), std::nullopt});
  LFS_ASSIGN(const MergedView nothing, layers.below(layers.stack().size()));
  const MergedView& before = options.squash ? nothing : layers.before();
  progress.start("committing",
                 estimate_bytes(progress, layers.stack(),
                                options.squash ? layers.stack().size() : layers.upper_count()));
  read_shortly(pack, instant);
  if (name == "-") {
    LFS_TRY(instant.begin());
    oci::DescriptorSink sink(STDOUT_FILENO, "standard output");
    LFS_ASSIGN(const oci::Packed packed,
               to_outcome(oci::pack_layer(before, layers.now(), sink, pack)));
    progress.finish();
    LFS_TRY(judge_losses(packed.losses, options.strict, streams));
    tell_layer("layer", packed, options.json, streams.err);
    return {};
  }
  LFS_ASSIGN(const oci::Target target, to_outcome(oci::open_target(name)));
  LFS_ASSIGN(oci::OutputFile file, to_outcome(oci::OutputFile::create(target.dir.get(), name)));
  LFS_TRY(instant.begin());
  LFS_ASSIGN(const oci::Packed packed,
             to_outcome(oci::pack_layer(before, layers.now(), file, pack)));
  progress.finish();
  LFS_TRY(judge_losses(packed.losses, options.strict, streams));
  LFS_TRY(to_outcome(file.publish(target.name, oci::OutputFile::Sync::No)));
  tell_layer(name, packed, options.json, streams.out);
  return {};
}

Outcome<void> run(const std::vector<std::string>& positionals, const CommitOptions& options,
                  const Streams& streams) {
  if (positionals.size() != 1) {
    return usage_error(positionals.empty() ? "neither an upper nor a mount point is given"
                                           : "unexpected argument '" + positionals[1] + "'");
  }
  LFS_TRY(options.check());
  LFS_ASSIGN(const LayerChoice choice, choose_layers(positionals[0], options.words));
  if (!choice.mount && choice.lowers.empty() && !options.squash) {
    return usage_error("the layers below '" + positionals[0] +
                       "' are not given; name them with --lower");
  }
  UniqueFd held;
  if (!choice.mount) {
    LFS_ASSIGN(held, hold_upper(choice));
  }
  LFS_ASSIGN(const auto layers, OpenLayers::open(choice));
  Instant instant(choice, *layers);
  Progress progress(streams.err, options.progress, streams.err_is_terminal);
  LFS_ASSIGN(oci::PackOptions pack, pack_options(options, progress));
  return options.image
             ? commit_image(options, *layers, instant, std::move(pack), progress, streams)
             : commit_layer(options, *layers, instant, std::move(pack), progress, streams);
}

}  // namespace

Command describe_commit() {
  static CommitOptions unused;
  return unused.command();
}

int cmd_commit(Arguments arguments, const Streams& streams, const Environment& /*environment*/) {
  CommitOptions options;
  return run_command(options.command(), arguments, streams, OnSignal::CleanUp,
                     [&](const std::vector<std::string>& positionals) {
                       return run(positionals, options, streams);
                     });
}

}  // namespace layerfs
