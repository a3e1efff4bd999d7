#include "tools/oci/pack.h"

#include <fstream>

#include "layers/change_walk.h"
#include "tools/oci/spool.h"

namespace layerfs::oci {

Fallible<Packed> pack_layer(const MergedView& before, const MergedView& now, ByteSink& to,
                            const PackOptions& options) {
  LFS_ASSIGN(const auto output, LayerOutput::create(to, options.compression, options.threads));
  std::unique_ptr<Spool> spool;
  if (options.when_read) {
    LFS_ASSIGN(spool, Spool::create());
  }
  LayerWriter writer(spool ? static_cast<BlockSink&>(*spool) : *output, options.writer);
  LFS_TRY(walk_changes(before, now, LayerWriter::walk_options(options.explicit_whiteouts),
                       [&](const Change& change) { return writer.add(change); }));
  LFS_TRY(writer.finish());
  if (spool) {
    LFS_TRY(options.when_read());
    LFS_TRY(spool->copy_to(*output, [&]() -> Fallible<void> {
      return options.writer.progress ? options.writer.progress(0) : Fallible<void>();
    }));
  }
  LFS_ASSIGN(LayerInfo info, output->finish());
  return Packed{std::move(info), writer.entries(), writer.take_losses(), writer.newest()};
}

Fallible<std::optional<std::uint32_t>> unmapped_id(const char* map_file,
                                                   const char* overflow_file) {
  std::uint32_t overflow = 0;
  if (!(std::ifstream(overflow_file) >> overflow)) {
    return Failure{std::string("cannot read ") + overflow_file + "; mount /proc"};
  }
  std::ifstream map(map_file);
  std::uint64_t inside = 0;
  std::uint64_t outside = 0;
  std::uint64_t count = 0;
  while (map >> inside >> outside >> count) {
    if (overflow >= inside && overflow - inside < count) {
      return std::optional<std::uint32_t>();  // it is an id as any other
    }
  }
  if (!map.eof()) {
    return Failure{std::string("cannot read ") + map_file + "; mount /proc"};
  }
  return std::optional<std::uint32_t>(overflow);
}

}  // namespace layerfs::oci
