#include "tools/oci/layer_unpack.h"

#include <algorithm>
#include <cstring>
#include <thread>

#include "tools/oci/block_pool.h"
#include "tools/oci/channel.h"
#include "tools/oci/decompress.h"
#include "tools/oci/piped_source.h"

namespace layerfs::oci {
namespace {

// Behind the end of a tar is padding; no writer pads more.
constexpr std::uint64_t kMostPadding = 64 << 20;

class CountedSource : public ByteSource {
 public:
  CountedSource(std::unique_ptr<ByteSource> from,
                std::function<Fallible<void>(std::uint64_t bytes)> progress)
      : from_(std::move(from)), progress_(std::move(progress)) {}
  Fallible<std::size_t> read(char* data, std::size_t size) override {
    LFS_ASSIGN(const std::size_t have, from_->read(data, size));
    LFS_TRY(progress_(have));
    return have;
  }

 private:
  std::unique_ptr<ByteSource> from_;
  std::function<Fallible<void>(std::uint64_t bytes)> progress_;
};

// What is behind the tar belongs to what the digest is of.
Fallible<void> read_padding(ByteSource& source) {
  std::string buffer(64 * 1024, '\0');
  for (std::uint64_t total = 0; total < kMostPadding;) {
    LFS_ASSIGN(const std::size_t have, source.read(buffer.data(), buffer.size()));
    if (have == 0) {
      return {};
    }
    total += have;
  }
  return Failure{"too much follows the end of the tar"};
}

}  // namespace

Fallible<UnpackedLayer> unpack_layer(UnpackInput input, int root, ApplyOptions options) {
  const std::string shown = input.shown;
  const auto named = [&shown](const Failure& failure) {
    return failure.message.find(shown) != std::string::npos
               ? failure
               : Failure{shown + ": " + failure.message};
  };
  auto progress = input.progress;
  std::unique_ptr<ByteSource> tar =
      decompress(std::make_unique<CountedSource>(std::move(input.blob), progress), shown);
  PipedSource pipe(std::move(tar));
  TarReader reader(pipe);
  LayerApplier applier(root, std::move(options));
  for (;;) {
    const auto item = reader.next();
    if (!item) {
      return named(item.error());
    }
    if (!*item) {
      break;
    }
    auto added = applier.add(**item, reader);
    if (added) {
      added = progress(0);
    }
    if (!added) {
      return named(added.error());
    }
  }
  if (const auto rest = read_padding(pipe); !rest) {
    return named(rest.error());
  }
  const Digest found = pipe.finish();
  if (input.diff_id && found != *input.diff_id) {
    return Failure{shown + " is damaged: its tar has the digest " + found.text() + ", not " +
                   input.diff_id->text() + "; fetch it again"};
  }
  if (const auto finished = applier.finish(); !finished) {
    return named(finished.error());
  }
  return UnpackedLayer{found, applier.bytes(), applier.entries(), applier.has_implied(),
                       applier.take_losses()};
}

}  // namespace layerfs::oci
