#include "tools/oci/layer_output.h"

#include <zstd.h>

#include <algorithm>
#include <deque>
#include <iterator>
#include <optional>
#include <string>

namespace layerfs::oci {
namespace {

// Of gzip a block is a unit of compression, so its size decides the bytes. Of less, waking
// each other up costs the threads more than the work.
constexpr std::size_t kBlockBytes = 512 * 1024;
// Independent of the number of threads, as the output must be.
constexpr int kZstdJobBytes = 1 << 20;

// What keeps compression by zstd within some 30 MiB. The tables are those that zstd 1.5 has for
// the level, but where even one thread's would be too large; 0: as zstd has it. How many threads
// there are does not decide the bytes, but whether there are any does: where the tables leave room
// for one only, it is the caller's own, as one beside it would read much of the data twice.
struct ZstdPlan {
  int highest_level;
  unsigned most_threads;  // 0: none beside the caller's
  int window_log;
  int hash_log;
  int chain_log;
};
constexpr ZstdPlan kZstdPlans[] = {
    {3, 12, 0, 0, 0}, {4, 8, 0, 0, 0},   {6, 6, 0, 0, 0},     {8, 4, 0, 0, 0},
    {9, 2, 0, 0, 0},  {12, 2, 0, 21, 0}, {19, 0, 22, 20, 22},
};

const ZstdPlan& plan_of(int level) {
  return *std::find_if(std::begin(kZstdPlans), std::end(kZstdPlans) - 1,
                       [level](const ZstdPlan& plan) { return level <= plan.highest_level; });
}
// A thread of gzip takes some 2 MiB.
constexpr unsigned kMostGzipThreads = 12;

}  // namespace

// By one thread at a time, not always the same.
class LayerOutput::Encoder {
 public:
  explicit Encoder(ByteSink& to) : to_(to) {}
  Encoder(const Encoder&) = delete;
  Encoder& operator=(const Encoder&) = delete;
  virtual ~Encoder() = default;

  virtual Fallible<void> add(SharedBlock block) = 0;
  virtual Fallible<void> end() = 0;
  // nullopt: what is written is the tar itself.
  virtual std::optional<Digest> digest() { return hash_.finish(); }
  std::uint64_t bytes() const { return bytes_; }

  // false: there is a failure.
  bool run(const SharedBlock& block) {
    if (auto added = add(block); !added) {
      failure_ = added.error();
    }
    return !failure_;
  }
  const std::optional<Failure>& failure() const { return failure_; }

 protected:
  Fallible<void> put(std::string_view bytes) {
    hash_.add(bytes);
    return put_unhashed(bytes);
  }
  Fallible<void> put_unhashed(std::string_view bytes) {
    bytes_ += bytes.size();
    return to_.write(bytes);
  }

 private:
  ByteSink& to_;
  Sha256 hash_;
  std::uint64_t bytes_ = 0;
  std::optional<Failure> failure_;
};

class LayerOutput::RawEncoder : public Encoder {
 public:
  using Encoder::Encoder;
  Fallible<void> add(SharedBlock block) override { return put_unhashed(block->bytes()); }
  Fallible<void> end() override { return {}; }
  std::optional<Digest> digest() override { return std::nullopt; }
};

class LayerOutput::GzipEncoder : public Encoder {
 public:
  GzipEncoder(ByteSink& to, unsigned threads, int level)
      : Encoder(to), most_jobs_(threads + 2), pool_(threads, level) {}

  Fallible<void> add(SharedBlock block) override {
    auto job = std::make_shared<GzipJob>(std::move(block));
    jobs_.push_back(job);
    pool_.add(std::move(job));
    return jobs_.size() > most_jobs_ ? write_first() : Fallible<void>();
  }
  Fallible<void> end() override {
    if (bytes() == 0 && jobs_.empty()) {
      // A file without a member is none.
      LFS_TRY(add(std::make_shared<Block>(0)));
    }
    while (!jobs_.empty()) {
      LFS_TRY(write_first());
    }
    return {};
  }

 private:
  Fallible<void> write_first() {
    const std::string member = jobs_.front()->take();
    jobs_.pop_front();
    return put(member);
  }

  std::size_t most_jobs_;
  std::deque<std::shared_ptr<GzipJob>> jobs_;
  GzipPool pool_;
};

class LayerOutput::ZstdEncoder : public Encoder {
 public:
  static Fallible<std::unique_ptr<ZstdEncoder>> create(ByteSink& to, unsigned threads, int level) {
    std::unique_ptr<ZstdEncoder> encoder(new ZstdEncoder(to));
    // zstd.h, ZSTD_c_nbWorkers: with one or more the frame is the same for any number of them.
    const ZstdPlan& plan = plan_of(level);
    const unsigned workers = std::min(threads, plan.most_threads);
    for (const auto& [parameter, value] :
         {std::pair{ZSTD_c_compressionLevel, level}, std::pair{ZSTD_c_checksumFlag, 1},
          std::pair{ZSTD_c_windowLog, plan.window_log}, std::pair{ZSTD_c_hashLog, plan.hash_log},
          std::pair{ZSTD_c_chainLog, plan.chain_log},
          std::pair{ZSTD_c_nbWorkers, static_cast<int>(workers)},
          std::pair{ZSTD_c_jobSize, workers > 0 ? kZstdJobBytes : 0}}) {
      if (ZSTD_isError(ZSTD_CCtx_setParameter(encoder->context_, parameter, value)) != 0) {
        return Failure{"libzstd was built without threads; use gzip"};
      }
    }
    return encoder;
  }
  ~ZstdEncoder() override { ZSTD_freeCCtx(context_); }

  Fallible<void> add(SharedBlock block) override {
    const std::string_view bytes = block->bytes();
    ZSTD_inBuffer in{bytes.data(), bytes.size(), 0};
    while (in.pos < in.size) {
      LFS_TRY(step(in, ZSTD_e_continue).error_or_nothing());
    }
    return {};
  }
  Fallible<void> end() override {
    ZSTD_inBuffer in{nullptr, 0, 0};
    for (;;) {
      const Step stepped = step(in, ZSTD_e_end);
      LFS_TRY(stepped.error_or_nothing());
      if (stepped.left == 0) {
        return {};
      }
    }
  }

 private:
  struct Step {
    std::size_t left;
    std::optional<Failure> failure;
    Fallible<void> error_or_nothing() const {
      return failure ? Fallible<void>(*failure) : Fallible<void>();
    }
  };

  explicit ZstdEncoder(ByteSink& to)
      : Encoder(to), context_(ZSTD_createCCtx()), buffer_(ZSTD_CStreamOutSize(), '\0') {}

  Step step(ZSTD_inBuffer& in, ZSTD_EndDirective directive) {
    ZSTD_outBuffer out{buffer_.data(), buffer_.size(), 0};
    const std::size_t left = ZSTD_compressStream2(context_, &out, &in, directive);
    if (ZSTD_isError(left) != 0) {
      return {0, Failure{std::string("cannot compress: ") + ZSTD_getErrorName(left)}};
    }
    if (auto written = put({buffer_.data(), out.pos}); !written) {
      return {0, written.error()};
    }
    return {left, std::nullopt};
  }

  ZSTD_CCtx* context_;
  std::string buffer_;
};

LayerOutput::LayerOutput(Codec codec) : codec_(codec), pool_(kBlockBytes) {}

Fallible<std::unique_ptr<LayerOutput>> LayerOutput::create(ByteSink& to, Compression compression,
                                                           unsigned threads) {
  std::unique_ptr<LayerOutput> output(new LayerOutput(compression.codec));
  switch (compression.codec) {
    case Codec::None:
      output->encoder_ = std::make_unique<RawEncoder>(to);
      break;
    case Codec::Gzip:
      output->encoder_ = std::make_unique<GzipEncoder>(to, std::min(threads, kMostGzipThreads),
                                                       compression.level.value_or(kGzipLevel));
      break;
    case Codec::Zstd: {
      LFS_ASSIGN(output->encoder_,
                 ZstdEncoder::create(to, threads, compression.level.value_or(kZstdLevel)));
      break;
    }
  }
  LayerOutput& self = *output;
  self.work_ = std::make_unique<BlockWork>(
      [&self](const SharedBlock& block) {
        self.tar_hash_.add(block->bytes());
        return true;
      },
      [&self](const SharedBlock& block) { return self.encoder_->run(block); });
  return output;
}

LayerOutput::~LayerOutput() = default;

Failure LayerOutput::failure() const {
  return encoder_->failure().value_or(Failure{"the layer's writer has stopped"});
}

Fallible<BlockSink::Space> LayerOutput::space() {
  if (!block_) {
    block_ = pool_.take();
  }
  return Space{block_->data.get() + block_->used, block_->capacity - block_->used};
}

Fallible<void> LayerOutput::filled(std::size_t size) {
  block_->used += size;
  tar_bytes_ += size;
  return block_->used == block_->capacity ? send() : Fallible<void>();
}

Fallible<void> LayerOutput::send() {
  const SharedBlock block = std::move(block_);
  return work_->push(block) ? Fallible<void>() : failure();
}

Fallible<LayerInfo> LayerOutput::finish() {
  if (block_ && block_->used > 0) {
    LFS_TRY(send());
  }
  if (!work_->finish()) {
    return failure();
  }
  LFS_TRY(encoder_->end());
  const Digest diff_id = tar_hash_.finish();
  return LayerInfo{diff_id, encoder_->digest().value_or(diff_id), tar_bytes_, encoder_->bytes(),
                   codec_};
}

}  // namespace layerfs::oci
