#include "tests/testlib/faults.h"

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <optional>

namespace layerfs::testing {
namespace {

// The one fault: `left` counts down to it, and below 0 there is none.
std::atomic<Call> fault_call{Call::Count};
std::atomic<int> fault_error{0};
std::atomic<long> fault_left{-1};
std::atomic<bool> fault_fired{false};

std::atomic<bool> tracing{false};
std::mutex trace_mutex;
std::vector<Call> trace;

// Whether this call is to fail; errno is set then.
bool fails(Call call) {
  if (tracing.load()) {
    const std::lock_guard lock(trace_mutex);
    trace.push_back(call);
  }
  if (fault_call.load() != call || fault_left.fetch_sub(1) != 0) {
    return false;
  }
  fault_fired = true;
  errno = fault_error;
  return true;
}

// What libc does not know, and is called by number.
constexpr long kSetXattrAt = 463;
constexpr long kGetXattrAt = 464;
constexpr long kListXattrAt = 465;
constexpr long kRemoveXattrAt = 466;
std::optional<Call> call_of(long number) {
  switch (number) {
    case SYS_openat2:
      return Call::Open;
    case kSetXattrAt:
      return Call::SetXattr;
    case kGetXattrAt:
      return Call::GetXattr;
    case kListXattrAt:
      return Call::ListXattr;
    default:
      return std::nullopt;
  }
}

// The definition that ours hides.
template <class F>
F* real(const char* name) {
  return reinterpret_cast<F*>(::dlsym(RTLD_NEXT, name));
}

}  // namespace

const char* to_string(Call call) {
  static constexpr const char* kNames[] = {"open",     "statx",      "listxattr", "getxattr",
                                           "setxattr", "getdents64", "rename",    "fsync"};
  return kNames[static_cast<std::size_t>(call)];
}

Fault::Fault(Call call, int error, std::size_t succeeding) {
  fault_fired = false;
  fault_error = error;
  fault_left = static_cast<long>(succeeding);
  fault_call = call;
}
Fault::~Fault() { fault_call = Call::Count; }
bool Fault::fired() const { return fault_fired; }

CallTrace::CallTrace() {
  const std::lock_guard lock(trace_mutex);
  trace.clear();
  tracing = true;
}
CallTrace::~CallTrace() { tracing = false; }
std::vector<Call> CallTrace::calls() const {
  const std::lock_guard lock(trace_mutex);
  return trace;
}

}  // namespace layerfs::testing

using layerfs::testing::Call;
using layerfs::testing::call_of;
using layerfs::testing::fails;
using layerfs::testing::kRemoveXattrAt;
using layerfs::testing::kSetXattrAt;
using layerfs::testing::real;

// Defines libc function `name` so that it can fail.
#define LFS_FAULTY(result, call, name, parameters, arguments) \
  result name parameters {                                    \
    static auto* const next = real<result parameters>(#name); \
    return fails(call) ? result{-1} : next arguments;         \
  }

extern "C" {

// The names that the headers give to open() and openat() with 64-bit offsets.
int open64(const char* path, int flags, ...) {
  static auto* const next = real<int(const char*, int, ...)>("open64");
  std::va_list rest;
  va_start(rest, flags);
  const mode_t mode = va_arg(rest, mode_t);
  va_end(rest);
  return fails(Call::Open) ? -1 : next(path, flags, mode);
}
int openat64(int dir, const char* path, int flags, ...) {
  static auto* const next = real<int(int, const char*, int, ...)>("openat64");
  std::va_list rest;
  va_start(rest, flags);
  const mode_t mode = va_arg(rest, mode_t);
  va_end(rest);
  return fails(Call::Open) ? -1 : next(dir, path, flags, mode);
}
long syscall(long number, ...) noexcept {
  static auto* const next = real<long(long, ...)>("syscall");
  std::va_list rest;
  va_start(rest, number);
  long arguments[6];
  for (long& argument : arguments) {
    argument = va_arg(rest, long);
  }
  va_end(rest);
  // A kernel before 6.13, for the programs that are run once more so (faults.h).
  static const bool is_old = std::getenv("LAYERFS_TEST_NO_XATTRAT") != nullptr;
  if (is_old && number >= kSetXattrAt && number <= kRemoveXattrAt) {
    errno = ENOSYS;
    return -1;
  }
  if (const auto call = call_of(number); call && fails(*call)) {
    return -1;
  }
  return next(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4],
              arguments[5]);
}

LFS_FAULTY(int, Call::Statx, statx,
           (int dir, const char* path, int flags, unsigned mask, struct statx* st),
           (dir, path, flags, mask, st))
LFS_FAULTY(ssize_t, Call::ListXattr, listxattr, (const char* path, char* list, std::size_t size),
           (path, list, size))
LFS_FAULTY(ssize_t, Call::ListXattr, llistxattr, (const char* path, char* list, std::size_t size),
           (path, list, size))
LFS_FAULTY(ssize_t, Call::GetXattr, getxattr,
           (const char* path, const char* name, void* value, std::size_t size),
           (path, name, value, size))
LFS_FAULTY(ssize_t, Call::GetXattr, lgetxattr,
           (const char* path, const char* name, void* value, std::size_t size),
           (path, name, value, size))
LFS_FAULTY(int, Call::SetXattr, setxattr,
           (const char* path, const char* name, const void* value, std::size_t size, int flags),
           (path, name, value, size, flags))
LFS_FAULTY(int, Call::SetXattr, lsetxattr,
           (const char* path, const char* name, const void* value, std::size_t size, int flags),
           (path, name, value, size, flags))
LFS_FAULTY(ssize_t, Call::ListXattr, flistxattr, (int fd, char* list, std::size_t size),
           (fd, list, size))
LFS_FAULTY(ssize_t, Call::GetXattr, fgetxattr,
           (int fd, const char* name, void* value, std::size_t size), (fd, name, value, size))
LFS_FAULTY(int, Call::SetXattr, fsetxattr,
           (int fd, const char* name, const void* value, std::size_t size, int flags),
           (fd, name, value, size, flags))
LFS_FAULTY(ssize_t, Call::ReadDirectory, getdents64, (int fd, void* buffer, std::size_t size),
           (fd, buffer, size))
LFS_FAULTY(int, Call::Rename, renameat2,
           (int from_dir, const char* from, int to_dir, const char* to, unsigned flags),
           (from_dir, from, to_dir, to, flags))
LFS_FAULTY(int, Call::Fsync, fsync, (int fd), (fd))
LFS_FAULTY(int, Call::Fsync, fdatasync, (int fd), (fd))

}  // extern "C"
