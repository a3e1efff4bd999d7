// Any bytes as a layer: whatever they are, nothing outside of the target directory changes.
#include <fcntl.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "layers/sys/syscalls.h"
#include "tests/fuzz/target.h"
#include "tests/testlib/files.h"
#include "tests/testlib/hostile_layers.h"
#include "tests/testlib/tar_text.h"
#include "tools/oci/layer_unpack.h"

using namespace layerfs;
using namespace layerfs::oci;
using namespace layerfs::testing;

namespace {

constexpr std::size_t kBlock = 512;
// ustar has nothing there.
constexpr std::size_t kChoiceAt = 500;

class MemorySource : public ByteSource {
 public:
  explicit MemorySource(const std::string& bytes) : bytes_(bytes) {}
  Fallible<std::size_t> read(char* data, std::size_t size) override {
    const std::size_t have = bytes_.copy(data, size, at_);
    at_ += have;
    return have;
  }

 private:
  const std::string& bytes_;
  std::size_t at_ = 0;
};

// With right checksums, so that more than the first look at a header is tried.
void mend_checksums(std::string& tar) {
  for (std::size_t at = 0; at + kBlock <= tar.size();) {
    constexpr std::size_t kSumAt = 148;
    constexpr std::size_t kSumBytes = 8;
    constexpr std::size_t kSizeAt = 124;
    constexpr std::size_t kSizeBytes = 12;
    unsigned sum = 0;
    bool is_zero = true;
    for (std::size_t i = 0; i < kBlock; ++i) {
      const bool in_sum = i >= kSumAt && i < kSumAt + kSumBytes;
      sum += in_sum ? ' ' : static_cast<unsigned char>(tar[at + i]);
      is_zero = is_zero && tar[at + i] == '\0';
    }
    if (!is_zero) {
      char text[kSumBytes];
      std::snprintf(text, sizeof text, "%06o", sum);
      tar.replace(at + kSumAt, kSumBytes - 1, text, kSumBytes - 1);
    }
    const std::string size = tar.substr(at + kSizeAt, kSizeBytes);
    const auto bytes = std::strtoull(size.c_str(), nullptr, 8) % (1U << 20);
    at += kBlock + (bytes + kBlock - 1) / kBlock * kBlock;
  }
}

// One for all runs: "in" is the target, beside it is what must stay.
struct Ground {
  TempDir dir{quick_parent()};
  Ground() {
    make_dirs(dir.at("outside/d"));
    write_file(dir.at("outside/file"), "precious");
  }
  void check() const {
    const bool same = names_in(dir.path()) == std::vector<std::string>{"in", "outside"} &&
                      names_in(dir.at("outside")) == std::vector<std::string>{"d", "file"} &&
                      names_in(dir.at("outside/d")).empty() &&
                      read_file(dir.at("outside/file")) == "precious";
    if (!same) {
      std::fputs("the layer reached outside of its directory\n", stderr);
      std::abort();
    }
  }
};

}  // namespace

// The hostile layers in each form.
std::vector<std::string> layerfs::testing::fuzz_seeds() {
  std::vector<std::string> seeds;
  for (const HostileLayer& layer : hostile_layers()) {
    for (char choice = 0; choice < 4; ++choice) {
      seeds.push_back(tar_text(layer.words));
      seeds.back()[kChoiceAt] = choice;
    }
  }
  return seeds;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Ground ground;
  std::string tar(reinterpret_cast<const char*>(data), size);
  const unsigned choice = size > kChoiceAt ? static_cast<unsigned char>(tar[kChoiceAt]) : 0;
  if ((choice & 4U) == 0) {
    mend_checksums(tar);
  }
  make_dirs(ground.dir.at("in"));
  {
    const UniqueFd root(::open(ground.dir.at("in").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    const auto form = (choice & 1U) == 0 ? WhiteoutForm::DotWh : WhiteoutForm::Overlay;
    const auto marks = probe_marks(root.get(), {form, std::nullopt});
    ApplyOptions options;
    options.override_stat = (choice & 2U) != 0 || ::geteuid() != 0;
    options.limits = {1 << 20, 1000};
    if (marks) {
      options.marks = *marks;
      const auto done = unpack_layer({std::make_unique<MemorySource>(tar), "LAYER", std::nullopt,
                                      [](std::uint64_t) { return Fallible<void>(); }},
                                     root.get(), options);
      if (!done && done.error().message.empty()) {
        std::abort();
      }
    }
  }
  ground.check();
  const UniqueFd parent(::open(ground.dir.path().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (const auto removed = sys::remove_tree({parent.get(), "in"}); !removed) {
    std::fputs("cannot remove what was unpacked\n", stderr);
    std::abort();
  }
  return 0;
}
