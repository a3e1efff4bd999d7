// What the wrappers of system calls share; for layers/sys alone.
#pragma once

#include <array>
#include <climits>
#include <cstdio>

#include "layers/sys/result.h"
#include "layers/sys/syscalls.h"

namespace layerfs::sys {

inline Status status_of(long rc) {
  if (rc < 0) {
    return Errno::last();
  }
  return {};
}

// Path of `at` through /proc/self/fd, for calls that know no directory descriptor.
// The magic link is followed to the very object; one component after it is not.
class ProcPath {
 public:
  explicit ProcPath(At at) {
    const int n =
        at.is_self()
            ? std::snprintf(text_.data(), text_.size(), "/proc/self/fd/%d", at.dir)
            : std::snprintf(text_.data(), text_.size(), "/proc/self/fd/%d/%s", at.dir, at.name);
    fits_ = n > 0 && static_cast<std::size_t>(n) < text_.size();
  }
  const char* c_str() const { return text_.data(); }
  bool fits() const { return fits_; }

 private:
  std::array<char, NAME_MAX + 64> text_{};
  bool fits_ = false;
};

}  // namespace layerfs::sys
