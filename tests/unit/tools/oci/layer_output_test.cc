#include "tools/oci/layer_output.h"

#include <zlib.h>
#include <zstd.h>

#include <catch2/catch.hpp>
#include <random>

using namespace layerfs;
using namespace layerfs::oci;

namespace {

class StringSink : public ByteSink {
 public:
  Fallible<void> write(std::string_view bytes) override {
    if (text.size() + bytes.size() > limit) {
      return Failure{"full"};
    }
    text += bytes;
    return {};
  }
  std::string text;
  std::size_t limit = static_cast<std::size_t>(-1);
};

// Neither all equal nor all different.
std::string sample(std::size_t size) {
  std::mt19937 random(1);  // NOLINT(cert-msc51-cpp): the same each time
  std::string out;
  while (out.size() < size) {
    out += "line " + std::to_string(random() % 1000) + "\n";
  }
  out.resize(size);
  return out;
}

struct Made {
  std::string bytes;
  LayerInfo info;
};

Made make(const std::string& text, Compression compression, unsigned threads) {
  StringSink sink;
  auto output = LayerOutput::create(sink, compression, threads);
  REQUIRE(output);
  REQUIRE((*output)->write(text));
  auto info = (*output)->finish();
  REQUIRE(info);
  return {sink.text, *info};
}

// By zlib, as most programs do it: member after member, and nothing else.
std::string gunzip(const std::string& bytes) {
  std::string out;
  std::string in = bytes;
  std::string buffer(1 << 20, '\0');
  z_stream stream{};
  stream.next_in = reinterpret_cast<Bytef*>(in.data());
  stream.avail_in = static_cast<uInt>(in.size());
  do {
    REQUIRE(inflateInit2(&stream, 15 + 16) == Z_OK);
    stream.next_out = reinterpret_cast<Bytef*>(buffer.data());
    stream.avail_out = static_cast<uInt>(buffer.size());
    REQUIRE(inflate(&stream, Z_FINISH) == Z_STREAM_END);
    out.append(buffer, 0, stream.total_out);
    inflateEnd(&stream);
  } while (stream.avail_in > 0);
  return out;
}

std::string unzstd(const std::string& bytes) {
  std::string out(64 << 20, '\0');
  const std::size_t size = ZSTD_decompress(out.data(), out.size(), bytes.data(), bytes.size());
  REQUIRE(ZSTD_isError(size) == 0);
  out.resize(size);
  return out;
}

}  // namespace

TEST_CASE("layer output: digests are those of the tar and of what was written") {
  const std::string text = sample(3 << 20);
  for (const Codec codec : {Codec::None, Codec::Gzip, Codec::Zstd}) {
    const Made made = make(text, {codec, std::nullopt}, 2);
    CHECK(made.info.diff_id == Digest::of(text));
    CHECK(made.info.digest == Digest::of(made.bytes));
    CHECK(made.info.tar_bytes == text.size());
    CHECK(made.info.bytes == made.bytes.size());
  }
}

TEST_CASE("layer output: what is compressed comes back, at the edges of blocks too") {
  for (const std::size_t size : {0UL, 1UL, 524287UL, 524288UL, 524289UL, 1UL << 20, 5000001UL}) {
    CAPTURE(size);
    const std::string text = sample(size);
    CHECK(make(text, {Codec::None, std::nullopt}, 1).bytes == text);
    CHECK(gunzip(make(text, {Codec::Gzip, std::nullopt}, 3).bytes) == text);
    CHECK(unzstd(make(text, {Codec::Zstd, std::nullopt}, 3).bytes) == text);
  }
}

TEST_CASE("layer output: the bytes do not depend on the number of threads") {
  const std::string text = sample(20 << 20);
  for (const Codec codec : {Codec::Gzip, Codec::Zstd}) {
    const std::string one = make(text, {codec, std::nullopt}, 1).bytes;
    CHECK(make(text, {codec, std::nullopt}, 2).bytes == one);
    CHECK(make(text, {codec, std::nullopt}, 7).bytes == one);
  }
}

TEST_CASE("layer output: zstd at each kind of level comes back, whatever the number of threads") {
  const std::string text = sample(3 << 20);
  for (const int level : {1, 4, 6, 8, 9, 12, 13, 16, 19}) {
    CAPTURE(level);
    // The slow ones take seconds for a MiB.
    const std::string some = text.substr(0, level < 13 ? text.size() : 300'000);
    const std::string one = make(some, {Codec::Zstd, level}, 1).bytes;
    CHECK(unzstd(one) == some);
    CHECK(make(some, {Codec::Zstd, level}, 3).bytes == one);
  }
}

TEST_CASE("layer output: gzip is as small as zlib makes the whole at its usual level") {
  const std::string text = sample(8 << 20);
  const std::size_t size = make(text, {Codec::Gzip, std::nullopt}, 2).bytes.size();
  uLongf whole = compressBound(text.size());
  std::string buffer(whole, '\0');
  REQUIRE(compress2(reinterpret_cast<Bytef*>(buffer.data()), &whole,
                    reinterpret_cast<const Bytef*>(text.data()), text.size(), 6) == Z_OK);
  CHECK(static_cast<double>(size) < 1.05 * static_cast<double>(whole));
}

TEST_CASE("layer output: a failure to write is told, and ends the threads") {
  for (const Codec codec : {Codec::None, Codec::Gzip, Codec::Zstd}) {
    StringSink sink;
    sink.limit = 100000;
    auto output = LayerOutput::create(sink, {codec, std::nullopt}, 2);
    REQUIRE(output);
    std::mt19937_64 random(2);  // NOLINT(cert-msc51-cpp): the same each time
    Fallible<void> result;
    for (int i = 0; i < 4000000 && result; ++i) {
      const std::uint64_t word = random();
      result = (*output)->write({reinterpret_cast<const char*>(&word), sizeof(word)});
    }
    const auto finished = result ? (*output)->finish() : Fallible<LayerInfo>(result.error());
    REQUIRE_FALSE(finished);
    CHECK(finished.error().message == "full");
  }
}

TEST_CASE("layer output: abandoned half-way it ends by itself") {
  StringSink sink;
  auto output = LayerOutput::create(sink, {Codec::Gzip, std::nullopt}, 2);
  REQUIRE(output);
  REQUIRE((*output)->write(sample(10 << 20)));
}

TEST_CASE("compression: words, names and magic") {
  CHECK(parse_compression("gzip")->codec == Codec::Gzip);
  CHECK(parse_compression("zstd:19")->level == 19);
  CHECK(parse_compression("none")->codec == Codec::None);
  for (const char* wrong :
       {"", "gz", "gzip:", "gzip:0", "gzip:10", "zstd:20", "zstd:x", "none:1"}) {
    CAPTURE(wrong);
    CHECK_FALSE(parse_compression(wrong));
  }
  CHECK(codec_of_name("a.tar.gz") == Codec::Gzip);
  CHECK(codec_of_name("a.tgz") == Codec::Gzip);
  CHECK(codec_of_name("a.tar.zst") == Codec::Zstd);
  CHECK(codec_of_name("a.tar") == Codec::None);
  CHECK(codec_of_magic(make("x", {Codec::Gzip, std::nullopt}, 1).bytes) == Codec::Gzip);
  CHECK(codec_of_magic(make("x", {Codec::Zstd, std::nullopt}, 1).bytes) == Codec::Zstd);
  CHECK(codec_of_magic("usr/bin") == Codec::None);
  CHECK(codec_of_magic("") == Codec::None);
}
