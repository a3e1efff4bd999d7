#include "tools/layerfs/tell_losses.h"

#include "tools/layerfs/fallible.h"

namespace layerfs {

Outcome<void> tell_losses(const oci::LossList& losses, std::string_view introduction,
                          const Streams& streams) {
  return to_outcome(losses.for_each([&](const oci::Loss& loss) -> oci::Fallible<void> {
    streams.err << "layerfs: " << introduction << ": "
                << in_one_line("'/" + loss.path + "': " + loss.what) << '\n';
    return {};
  }));
}

}  // namespace layerfs
