#include "tools/common/interrupt.h"

#include <atomic>
#include <iterator>

namespace layerfs {
namespace {

std::atomic<int> g_signal{0};
static_assert(std::atomic<int>::is_always_lock_free);

void mark(int signal) { g_signal.store(signal, std::memory_order_relaxed); }

}  // namespace

InterruptGuard::InterruptGuard() {
  g_signal = 0;
  for (std::size_t i = 0; i < std::size(kSignals); ++i) {
    struct sigaction action {};
    action.sa_handler = mark;
    // Calls of libraries that know no EINTR go on.
    action.sa_flags = SA_RESTART;
    ::sigaction(kSignals[i], nullptr, &before_[i]);
    if (before_[i].sa_handler != SIG_IGN) {  // under nohup it stays ignored
      ::sigaction(kSignals[i], &action, nullptr);
    }
  }
}

InterruptGuard::~InterruptGuard() {
  for (std::size_t i = 0; i < std::size(kSignals); ++i) {
    ::sigaction(kSignals[i], &before_[i], nullptr);
  }
  if (const int signal = g_signal.exchange(0); signal != 0) {
    ::raise(signal);
  }
}

bool InterruptGuard::interrupted() { return g_signal.load(std::memory_order_relaxed) != 0; }

}  // namespace layerfs
