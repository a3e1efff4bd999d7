// How far long work has come, for a person at a terminal or for a program.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>

#include "tools/common/command_line.h"
#include "tools/common/problem.h"

namespace layerfs {

enum class ProgressMode { Auto, Bar, Plain, Json, None };

// --progress: the option that sets `mode`.
Option progress_option(ProgressMode& mode);

class Progress {
 public:
  // Auto is a bar on a terminal and nothing elsewhere.
  Progress(std::ostream& err, ProgressMode mode, bool is_terminal);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  bool is_shown() const { return mode_ != ProgressMode::None; }
  // What is being done, from now on; `total` bytes if that is known, else 0.
  void start(std::string what, std::uint64_t total);
  // Bytes more are done. Any thread may say so.
  void add(std::uint64_t bytes) {
    done_.fetch_add(bytes, std::memory_order_relaxed);
    tick();
  }
  // The work that was started is over; a bar is wiped away.
  void finish();

 private:
  using Clock = std::chrono::steady_clock;
  void tick();
  void show(Clock::time_point now, bool last);

  std::ostream& err_;
  ProgressMode mode_;
  std::mutex mutex_;
  std::string what_;
  bool running_ = false;
  bool drawn_ = false;
  std::atomic<std::uint64_t> done_{0};
  std::atomic<std::uint64_t> total_{0};
  Clock::time_point started_;
  std::atomic<Clock::rep> next_{0};
};

// "1.5 MiB", for people.
std::string format_bytes(std::uint64_t bytes);
// One line of the bar, at most `width` columns.
std::string format_bar(std::string_view what, std::uint64_t done, std::uint64_t total,
                       double seconds, std::size_t width);

}  // namespace layerfs
