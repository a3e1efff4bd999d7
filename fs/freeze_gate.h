// Requests that would change the layers, kept back while somebody reads them as they are.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fs/file_system.h"

namespace layerfs {

class FreezeGate {
 public:
  explicit FreezeGate(FileSystem& fs) : fs_(fs) {}

  // The right to serve one request; lives while it is served.
  class Pass {
   public:
    explicit Pass(FreezeGate* gate) : gate_(gate) {}
    Pass(Pass&& other) noexcept : gate_(std::exchange(other.gate_, nullptr)) {}
    Pass& operator=(Pass&&) = delete;
    ~Pass() {
      if (gate_ != nullptr) {
        gate_->leave();
      }
    }
    // Whoever holds the gate's lock counts by himself.
    void drop() { gate_ = nullptr; }

   private:
    FreezeGate* gate_;
  };
  // `message`: a request as the kernel sends it. nullopt: it was copied, and is given back
  // by settle() or open(), to be served then.
  std::optional<Pass> admit(std::string_view message);

  using Kept = std::vector<std::string>;
  // Names and attributes stay as they are, and with the writeback cache who begins to write
  // waits for the attributes that the kernel asks for first; what the kernel has gathered
  // before is taken.
  Kept settle();
  // Nothing changes any more once it returns. ETIMEDOUT: a request takes longer.
  Status close(std::chrono::steady_clock::time_point deadline);
  Kept open();

  bool is_open() const { return phase_.load() == Phase::Open; }
  bool is_settling() const { return phase_.load() == Phase::Settling; }
  // WRITE requests admitted so far.
  std::uint64_t writes() const { return writes_.load(); }
  // Objects whose inode the kernel keeps locked for a request that is kept: until it is
  // served nobody writes to them, also where writes are passed through.
  std::set<NodeId> locked();

 private:
  enum class Phase { Open, Settling, Closed };
  enum class Kind { Reads, Begins, Gathered, Changes };
  static Kind kind_of(std::string_view message);
  bool holds_back(Kind kind, std::string_view message) const;
  void add_locked(std::string_view message, std::set<NodeId>& out);
  void leave();

  FileSystem& fs_;
  std::atomic<Phase> phase_{Phase::Open};
  std::atomic<std::uint64_t> active_{0};
  std::atomic<std::uint64_t> writes_{0};
  std::mutex mutex_;
  std::condition_variable idle_;
  Kept kept_;
};

}  // namespace layerfs
