#include "tools/oci/decompress.h"

#include <libdeflate.h>

#include <catch2/catch.hpp>
#include <random>

using namespace layerfs;
using namespace layerfs::oci;

namespace {

class StringSource : public ByteSource {
 public:
  explicit StringSource(std::string text) : text_(std::move(text)) {}
  Fallible<std::size_t> read(char* data, std::size_t size) override {
    const std::size_t have = text_.copy(data, std::min<std::size_t>(size, 70000), at_);
    at_ += have;
    return have;
  }

 private:
  std::string text_;
  std::size_t at_ = 0;
};

std::string text_of(std::size_t size) {
  std::mt19937 random(static_cast<unsigned>(size));
  std::string out;
  while (out.size() < size) {
    out += std::to_string(random()) + "\n";
  }
  out.resize(size);
  return out;
}

std::string member_of(const std::string& text) {
  libdeflate_compressor* compressor = libdeflate_alloc_compressor(1);
  std::string out(libdeflate_gzip_compress_bound(compressor, text.size()), '\0');
  out.resize(
      libdeflate_gzip_compress(compressor, text.data(), text.size(), out.data(), out.size()));
  libdeflate_free_compressor(compressor);
  return out;
}

Fallible<std::string> read_of(const std::string& bytes) {
  const auto source = decompress(std::make_unique<StringSource>(bytes), "BLOB");
  return read_all(*source, 64 << 20, "BLOB");
}

}  // namespace

TEST_CASE("decompress: a gzip file of small and large members in any order is what is in them") {
  const std::string none;
  const std::string small = text_of(300'000);
  const std::string large = text_of(5'000'000);
  for (const auto& texts : {std::vector{small},
                            {large},
                            {small, none, small, small},
                            {small, large, small},
                            {large, small, none},
                            {none}}) {
    std::string whole;
    std::string bytes;
    for (const std::string& text : texts) {
      whole += text;
      bytes += member_of(text);
    }
    const auto read = read_of(bytes);
    REQUIRE(read);
    CHECK(*read == whole);
  }
}

TEST_CASE("decompress: damage in a gzip member of any size and number is an error") {
  for (const std::size_t size : {1000UL, 5'000'000UL}) {
    const std::string good = member_of(text_of(size));
    for (const std::string& before : {std::string(), member_of(text_of(2000))}) {
      CAPTURE(size, before.size());
      std::string changed = good;
      changed[good.size() - 6] = static_cast<char>(changed[good.size() - 6] ^ 1);  // the checksum
      CHECK_FALSE(read_of(before + changed));
      CHECK_FALSE(read_of(before + good.substr(0, good.size() - 1)));
      CHECK_FALSE(read_of(before + good + "x"));
      CHECK(read_of(before + good));
    }
  }
}
