// What is resident, as the kernel counts it in /proc/self/smaps.
#include "layers/sys/resident.h"

#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <sstream>
#include <string>

using namespace layerfs;

namespace {

struct Resident {
  std::size_t kib = 0;
  std::size_t of_kib = 0;
};

// The mapping in which `address` lies.
Resident mapping_of(const void* address) {
  const auto wanted = reinterpret_cast<std::uintptr_t>(address);
  std::ifstream smaps("/proc/self/smaps");
  Resident out;
  bool inside = false;
  for (std::string line; std::getline(smaps, line);) {
    std::istringstream words(line);
    std::string first;
    std::size_t kib = 0;
    words >> first;
    if (const auto dash = first.find('-'); dash != std::string::npos && first.back() != ':') {
      inside = wanted >= std::stoull(first.substr(0, dash), nullptr, 16) &&
               wanted < std::stoull(first.substr(dash + 1), nullptr, 16);
    } else if (inside && first == "Size:" && words >> kib) {
      out.of_kib = kib;
    } else if (inside && first == "Rss:" && words >> kib) {
      out.kib = kib;
    }
  }
  return out;
}

const void* code() { return reinterpret_cast<const void*>(&mapping_of); }

}  // namespace

TEST_CASE("the code is resident after map_code and less of it after release_code") {
  sys::map_code();
  const Resident mapped = mapping_of(code());
  REQUIRE(mapped.of_kib > 0);
  CHECK(mapped.kib == mapped.of_kib);
  sys::release_code();
  CHECK(mapping_of(code()).kib < mapped.kib * 4 / 5);
}

TEST_CASE("memory that was populated is resident before it is written") {
  constexpr std::size_t kBytes = std::size_t{1} << 20U;
  void* const memory =
      ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(memory != MAP_FAILED);
  const std::size_t before = mapping_of(memory).kib;
  sys::populate(static_cast<char*>(memory) + 100, kBytes / 2);
  CHECK(mapping_of(memory).kib >= before + kBytes / 2 / 1024);
  ::munmap(memory, kBytes);
}
