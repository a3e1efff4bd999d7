// Without libFuzzer: the corpus once more, the hostile layers and the files given. With
// --seeds DIR the hostile layers are written there, for libFuzzer to begin with.
#include <cstdint>
#include <cstdio>
#include <string>

#include "tests/testlib/files.h"
#include "tests/testlib/hostile_layers.h"
#include "tests/testlib/tar_text.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

int main(int argc, char** argv) {
  using namespace layerfs::testing;
  const bool seeds = argc == 3 && std::string(argv[1]) == "--seeds";
  std::size_t count = 0;
  const auto run = [&](const std::string& bytes) {
    ++count;
    LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  };
  for (const HostileLayer& layer : hostile_layers()) {
    const std::string tar = tar_text(layer.words);
    if (seeds) {
      write_file(std::string(argv[2]) + "/hostile-" + std::to_string(count++) + ".tar", tar);
    } else {
      // In each of its forms.
      for (char choice = 0; choice < 4; ++choice) {
        std::string chosen = tar;
        chosen[500] = choice;
        run(chosen);
      }
    }
  }
  for (int i = 1; !seeds && i < argc; ++i) {
    run(read_file(argv[i]));
  }
  std::printf("%zu layers\n", count);
  return 0;
}
