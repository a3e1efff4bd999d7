#include "tools/oci/decompress.h"

#include <libdeflate.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "tools/oci/compression.h"

namespace layerfs::oci {
namespace {

constexpr std::size_t kInputBytes = 1 << 20;
// Those that layerfs makes hold half a MiB.
constexpr std::size_t kWholeBytes = 640 * 1024;
// 2^27 is what zstd itself accepts by default; larger windows are a request for memory.
constexpr int kMostWindowLog = 27;

// What was read of a source and is not used yet.
class Input {
 public:
  Input(std::unique_ptr<ByteSource> from, std::string shown)
      : from_(std::move(from)),
        shown_(std::move(shown)),
        buffer_(std::make_unique_for_overwrite<char[]>(kInputBytes)) {}

  // At least `want` bytes if there are so many; fewer at the end.
  Fallible<std::string_view> peek(std::size_t want) {
    if (end_ - begin_ < want) {
      std::memmove(buffer_.get(), buffer_.get() + begin_, end_ - begin_);
      end_ -= begin_;
      begin_ = 0;
    }
    while (end_ - begin_ < want) {
      LFS_ASSIGN(const std::size_t have, from_->read(buffer_.get() + end_, kInputBytes - end_));
      if (have == 0) {
        break;
      }
      end_ += have;
    }
    return std::string_view(buffer_.get() + begin_, end_ - begin_);
  }
  void take(std::size_t size) { begin_ += size; }
  Failure damaged(const std::string& why) const {
    return {"'" + shown_ + "' cannot be decompressed: " + why};
  }

 private:
  std::unique_ptr<ByteSource> from_;
  std::string shown_;
  std::unique_ptr<char[]> buffer_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
};

class Decoder {
 public:
  Decoder() = default;
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;
  virtual ~Decoder() = default;
  virtual Fallible<std::size_t> read(Input& in, char* data, std::size_t size) = 0;
};

class Copier : public Decoder {
 public:
  Fallible<std::size_t> read(Input& in, char* data, std::size_t size) override {
    LFS_ASSIGN(const std::string_view have, in.peek(1));
    const std::size_t used = std::min(have.size(), size);
    std::memcpy(data, have.data(), used);
    in.take(used);
    return used;
  }
};

// Small members in one piece, which is quicker, until there is one that is not small.
class Inflater : public Decoder {
 public:
  ~Inflater() override {
    inflateEnd(&stream_);
    libdeflate_free_decompressor(whole_);
  }

  Fallible<std::size_t> read(Input& in, char* data, std::size_t size) override {
    for (;;) {
      if (member_used_ < member_.size()) {
        const std::size_t used = member_.copy(data, size, member_used_);
        member_used_ += used;
        return used;
      }
      LFS_ASSIGN(const bool had_whole, take_whole_member(in));
      if (had_whole) {
        continue;
      }
      LFS_ASSIGN(const std::string_view have, in.peek(2));
      if (have.empty() && !open_) {
        return std::size_t{0};
      }
      LFS_TRY(begin_member(in, have));
      // zlib's own type; it does not write there.
      stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(have.data()));
      stream_.avail_in = static_cast<uInt>(have.size());
      stream_.next_out = reinterpret_cast<Bytef*>(data);
      stream_.avail_out = static_cast<uInt>(size);
      const int code = inflate(&stream_, Z_NO_FLUSH);
      in.take(have.size() - stream_.avail_in);
      const std::size_t made = size - stream_.avail_out;
      if (code == Z_STREAM_END) {
        open_ = false;
      } else if (code != Z_OK && code != Z_BUF_ERROR) {
        return in.damaged(stream_.msg == nullptr ? "zlib fails" : stream_.msg);
      } else if (made == 0 && have.size() == stream_.avail_in) {
        return in.damaged("it is cut short");
      }
      if (made > 0) {
        return made;
      }
    }
  }

 private:
  Fallible<bool> take_whole_member(Input& in) {
    if (open_ || whole_ == nullptr) {
      return false;
    }
    LFS_ASSIGN(const std::string_view have, in.peek(kWholeBytes));
    member_.resize(kWholeBytes);
    member_used_ = 0;
    std::size_t taken = 0;
    std::size_t made = 0;
    const auto result = libdeflate_gzip_decompress_ex(
        whole_, have.data(), have.size(), member_.data(), member_.size(), &taken, &made);
    if (result == LIBDEFLATE_SUCCESS) {
      member_.resize(made);
      in.take(taken);
      return true;
    }
    // Large, damaged, or the end: zlib tells.
    member_.clear();
    libdeflate_free_decompressor(whole_);
    whole_ = nullptr;
    return false;
  }

  Fallible<void> begin_member(const Input& in, std::string_view have) {
    if (open_) {
      return {};
    }
    if (codec_of_magic(have) != Codec::Gzip) {
      return in.damaged("something follows the compressed data");
    }
    inflateEnd(&stream_);
    stream_ = {};
    constexpr int kGzipOnly = 16;
    if (inflateInit2(&stream_, MAX_WBITS + kGzipOnly) != Z_OK) {
      return in.damaged("no memory");
    }
    open_ = true;
    return {};
  }

  libdeflate_decompressor* whole_ = libdeflate_alloc_decompressor();
  std::string member_;
  std::size_t member_used_ = 0;
  z_stream stream_ = {};
  bool open_ = false;
};

class ZstdDecoder : public Decoder {
 public:
  ZstdDecoder() : context_(ZSTD_createDCtx()) {
    ZSTD_DCtx_setParameter(context_, ZSTD_d_windowLogMax, kMostWindowLog);
  }
  ~ZstdDecoder() override { ZSTD_freeDCtx(context_); }

  Fallible<std::size_t> read(Input& in, char* data, std::size_t size) override {
    for (;;) {
      LFS_ASSIGN(const std::string_view have, in.peek(1));
      if (have.empty() && !inside_) {
        return std::size_t{0};
      }
      ZSTD_inBuffer input{have.data(), have.size(), 0};
      ZSTD_outBuffer output{data, size, 0};
      const std::size_t left = ZSTD_decompressStream(context_, &output, &input);
      if (ZSTD_isError(left) != 0) {
        return in.damaged(ZSTD_getErrorName(left));
      }
      in.take(input.pos);
      inside_ = left != 0;
      if (output.pos > 0) {
        return output.pos;
      }
      if (have.empty() && inside_) {
        return in.damaged("it is cut short");
      }
    }
  }

 private:
  ZSTD_DCtx* context_;
  bool inside_ = false;
};

class Decompressed : public ByteSource {
 public:
  Decompressed(std::unique_ptr<ByteSource> from, std::string shown)
      : input_(std::move(from), std::move(shown)) {}

  Fallible<std::size_t> read(char* data, std::size_t size) override {
    if (!decoder_) {
      constexpr std::size_t kMagicBytes = 4;
      LFS_ASSIGN(const std::string_view magic, input_.peek(kMagicBytes));
      switch (codec_of_magic(magic)) {
        case Codec::None:
          decoder_ = std::make_unique<Copier>();
          break;
        case Codec::Gzip:
          decoder_ = std::make_unique<Inflater>();
          break;
        case Codec::Zstd:
          decoder_ = std::make_unique<ZstdDecoder>();
          break;
      }
    }
    return decoder_->read(input_, data, size);
  }

 private:
  Input input_;
  std::unique_ptr<Decoder> decoder_;
};

}  // namespace

std::unique_ptr<ByteSource> decompress(std::unique_ptr<ByteSource> from, std::string shown) {
  return std::make_unique<Decompressed>(std::move(from), std::move(shown));
}

}  // namespace layerfs::oci
