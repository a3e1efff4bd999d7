// What a target of tests/fuzz defines: its own entry, which libFuzzer calls, and inputs to begin
// with.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace layerfs::testing {

std::vector<std::string> fuzz_seeds();

}  // namespace layerfs::testing
