// Failing system calls: the test program's own definitions of a few libc functions stand
// before libc's, so that the code under test meets errors that no filesystem gives on
// demand. A program that links layerfs_faults has them; they pass through until told.
// With LAYERFS_TEST_NO_XATTRAT in its environment the program runs as on a kernel without
// the calls setxattrat to removexattrat.
#pragma once

#include <cstddef>
#include <vector>

namespace layerfs::testing {

enum class Call {
  Open,  // open, openat, openat2
  Statx,
  ListXattr,
  GetXattr,
  SetXattr,
  ReadDirectory,  // getdents64
  Rename,
  Fsync,  // fsync, fdatasync
  Count
};
inline constexpr Call kReadingCalls[] = {Call::Open, Call::Statx, Call::ListXattr, Call::GetXattr,
                                         Call::ReadDirectory};
const char* to_string(Call call);

// One call of the kind fails, after `succeeding` others. One Fault at a time.
class Fault {
 public:
  Fault(Call call, int error, std::size_t succeeding = 0);
  ~Fault();
  Fault(const Fault&) = delete;
  Fault& operator=(const Fault&) = delete;
  bool fired() const;
};

// Runs `action` again and again, each time with another of its calls failing with
// `error`, and gives what it returns to `check`; ends when no call is left to fail.
// Returns how many were.
template <class Action, class Check>
std::size_t fail_each(Call call, int error, Action&& action, Check&& check) {
  for (std::size_t n = 0;; ++n) {
    const Fault fault(call, error, n);
    auto result = action();
    if (!fault.fired()) {
      return n;
    }
    check(result);
  }
}

// The calls since its construction, in order.
class CallTrace {
 public:
  CallTrace();
  ~CallTrace();
  CallTrace(const CallTrace&) = delete;
  CallTrace& operator=(const CallTrace&) = delete;
  std::vector<Call> calls() const;
};

}  // namespace layerfs::testing
