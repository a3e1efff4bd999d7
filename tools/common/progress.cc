#include "tools/common/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace layerfs {
namespace {

using std::chrono::milliseconds;

// A bar moves smoothly; lines for a log or a program come less often.
constexpr milliseconds kBarInterval{100};
constexpr milliseconds kLineInterval{1000};
// Carriage return, and the line erased to its end.
constexpr const char* kWipe = "\r\033[K";
constexpr std::size_t kUsualWidth = 80;

std::size_t terminal_width() {
  struct winsize size {};
  const bool known = ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return known ? size.ws_col : kUsualWidth;
}

std::string two_digits(std::uint64_t number) {
  return (number < 10 ? "0" : "") + std::to_string(number);
}

// "1:02:03", "2:03".
std::string format_duration(double seconds) {
  const auto whole = static_cast<std::uint64_t>(std::min(std::round(seconds), 359999.0));
  const std::string tail = ":" + two_digits(whole % 60);
  return whole < 3600 ? std::to_string(whole / 60) + tail
                      : std::to_string(whole / 3600) + ":" + two_digits(whole / 60 % 60) + tail;
}

}  // namespace

std::string format_bytes(std::uint64_t bytes) {
  constexpr std::array<const char*, 7> kUnits = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1000 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), unit == 0 || value >= 100 ? "%.0f %s" : "%.1f %s", value,
                kUnits[unit]);
  return text.data();
}

std::string format_bar(std::string_view what, std::uint64_t done, std::uint64_t total,
                       double seconds, std::size_t width) {
  const double rate = seconds > 0 ? static_cast<double>(done) / seconds : 0;
  std::string right = format_bytes(done);
  if (total > 0) {
    right += " of " + format_bytes(std::max(total, done));
  }
  right += ", " + format_bytes(static_cast<std::uint64_t>(rate)) + "/s, ";
  const bool knows_end = total > done && rate > 0;
  right += knows_end ? format_duration(static_cast<double>(total - done) / rate) + " left"
                     : format_duration(seconds);
  std::string line(what);
  const std::size_t used = line.size() + right.size() + 6;
  if (total > 0 && used + 8 < width) {
    const std::size_t cells = std::min<std::size_t>(width - used, 40);
    const double share = std::min(1.0, static_cast<double>(done) / static_cast<double>(total));
    const auto full = static_cast<std::size_t>(share * static_cast<double>(cells));
    line += " [" + std::string(full, '#') + std::string(cells - full, '-') + "]";
  }
  line += " " + right;
  return line.substr(0, width > 0 ? width - 1 : 0);
}

Option progress_option(ProgressMode& mode) {
  return {.name = "progress",
          .value = "FORM",
          .help =
              "How progress is shown on standard error: bar, plain (a line a second), json or "
              "none. Default: a bar on a terminal.",
          .apply = [&mode](std::string_view text) -> Outcome<void> {
            for (const auto& [word, value] :
                 {std::pair{"auto", ProgressMode::Auto}, std::pair{"bar", ProgressMode::Bar},
                  std::pair{"plain", ProgressMode::Plain}, std::pair{"json", ProgressMode::Json},
                  std::pair{"none", ProgressMode::None}}) {
              if (text == word) {
                mode = value;
                return {};
              }
            }
            return usage_error("'" + std::string(text) + "' is not one of bar, plain, json, none");
          }};
}

Progress::Progress(std::ostream& err, ProgressMode mode, bool is_terminal)
    : err_(err), mode_(mode) {
  if (mode_ == ProgressMode::Auto) {
    mode_ = is_terminal ? ProgressMode::Bar : ProgressMode::None;
  }
}

Progress::~Progress() {
  if (drawn_) {
    err_ << kWipe << std::flush;
  }
}

void Progress::start(std::string what, std::uint64_t total) {
  const std::lock_guard lock(mutex_);
  what_ = std::move(what);
  done_ = 0;
  total_ = total;
  started_ = Clock::now();
  running_ = true;
  next_ = (started_ + (mode_ == ProgressMode::Bar ? kBarInterval : kLineInterval))
              .time_since_epoch()
              .count();
}

void Progress::tick() {
  if (mode_ == ProgressMode::None) {
    return;
  }
  const auto now = Clock::now();
  auto due = next_.load(std::memory_order_relaxed);
  if (now.time_since_epoch().count() < due) {
    return;
  }
  const auto after = (now + (mode_ == ProgressMode::Bar ? kBarInterval : kLineInterval))
                         .time_since_epoch()
                         .count();
  if (next_.compare_exchange_strong(due, after)) {
    const std::lock_guard lock(mutex_);
    if (running_) {
      show(now, false);
    }
  }
}

void Progress::show(Clock::time_point now, bool last) {
  const double seconds = std::chrono::duration<double>(now - started_).count();
  const std::uint64_t done = done_;
  const std::uint64_t total = total_;
  switch (mode_) {
    case ProgressMode::Bar:
      if (last) {
        err_ << kWipe;
      } else {
        err_ << kWipe << format_bar(what_, done, total, seconds, terminal_width());
      }
      drawn_ = !last;
      break;
    case ProgressMode::Plain:
      err_ << format_bar(what_, done, last ? 0 : total, seconds, kUsualWidth * 2)
           << (last ? ", done\n" : "\n");
      break;
    case ProgressMode::Json: {
      nlohmann::json line = {{"progress", what_}, {"bytes", done}, {"seconds", seconds}};
      if (total > 0) {
        line["total"] = total;
      }
      line["done"] = last;
      err_ << line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << "\n";
      break;
    }
    case ProgressMode::Auto:
    case ProgressMode::None:
      break;
  }
  err_.flush();
}

void Progress::finish() {
  const std::lock_guard lock(mutex_);
  if (running_) {
    running_ = false;
    show(Clock::now(), true);
  }
}

}  // namespace layerfs
