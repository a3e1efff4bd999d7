// Without libFuzzer: a target's seeds, the files given, and with --random N as many inputs made
// of pieces of them, always the same. With --seeds DIR the seeds are written there, for libFuzzer
// to begin with.
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "tests/fuzz/target.h"
#include "tests/testlib/files.h"

using namespace layerfs::testing;

namespace {

void run_input(const std::string& bytes) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
}

std::string piece(const std::string& text, std::mt19937_64& random) {
  const std::size_t begin = random() % (text.size() + 1);
  return text.substr(begin, random() % (text.size() - begin + 1));
}

std::string made_of(const std::vector<std::string>& inputs, std::mt19937_64& random) {
  std::string bytes = inputs[random() % inputs.size()];
  switch (random() % 3) {
    case 0:
      bytes.insert(random() % (bytes.size() + 1), piece(inputs[random() % inputs.size()], random));
      break;
    case 1:
      bytes.erase(random() % (bytes.size() + 1), random() % 9);
      break;
    default:
      break;
  }
  for (auto changes = random() % 6; changes > 0 && !bytes.empty(); --changes) {
    bytes[random() % bytes.size()] = static_cast<char>(random());
  }
  return bytes;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> inputs = fuzz_seeds();
  std::size_t more = 0;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--seeds" && i + 1 < argc) {
      const std::string dir = argv[++i];
      for (std::size_t n = 0; n < inputs.size(); ++n) {
        write_file(dir + "/seed-" + std::to_string(n), inputs[n]);
      }
      return 0;
    }
    if (word == "--random" && i + 1 < argc) {
      more = std::strtoul(argv[++i], nullptr, 10);
    } else {
      inputs.push_back(read_file(word));
    }
  }
  for (const std::string& input : inputs) {
    run_input(input);
  }
  std::mt19937_64 random(1);
  for (std::size_t i = 0; i < more; ++i) {
    run_input(made_of(inputs, random));
  }
  std::printf("%zu inputs\n", inputs.size() + more);
  return 0;
}
