// Ctrl-C during long work: the work ends at the next convenient point, cleans up, and then
// the process ends by that signal, as a shell expects.
#pragma once

#include <signal.h>

namespace layerfs {

// While it lives SIGINT, SIGTERM and SIGHUP only set a mark. Its destructor lets the signal
// that came have its usual effect; so it is made before whatever must be cleaned up. Not
// nested.
class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

  // A signal has come.
  static bool interrupted();

 private:
  static constexpr int kSignals[] = {SIGINT, SIGTERM, SIGHUP};
  struct sigaction before_[3] = {};
};

}  // namespace layerfs
