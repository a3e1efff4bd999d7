// Errors as values. A function that can fail returns Result<T>; absence is not an
// error but a value (Result<std::optional<T>>), so that "could not read" can never
// be mistaken for "is not there".
#pragma once

#include <cerrno>
#include <optional>
#include <string>
#include <utility>
#include <variant>

namespace layerfs {

// A positive errno value (errno(3)); never 0.
class [[nodiscard]] Errno {
 public:
  explicit constexpr Errno(int value) : value_(value > 0 ? value : EIO) {}
  static Errno last() { return Errno(errno); }
  constexpr int value() const { return value_; }
  friend constexpr bool operator==(Errno a, Errno b) { return a.value_ == b.value_; }

 private:
  int value_;
};

// Text of an errno for a human, e.g. "No space left on device".
std::string describe(Errno error);

// The name cannot exist in that directory: the only errors that mean "absent".
constexpr bool is_absence(Errno e) {
  return e.value() == ENOENT || e.value() == ENOTDIR || e.value() == ENAMETOOLONG;
}
// The filesystem has no such attribute, or no attributes of that kind at all.
constexpr bool is_no_attribute(Errno e) { return e.value() == ENODATA || e.value() == EOPNOTSUPP; }
// The kernel or the filesystem does not implement the call (with these flags).
constexpr bool is_unsupported(Errno e) {
  return e.value() == ENOSYS || e.value() == EOPNOTSUPP || e.value() == EINVAL ||
         e.value() == ENOTTY;
}
// The call is refused to this process, whatever the object.
constexpr bool is_not_permitted(Errno e) { return e.value() == EPERM || e.value() == EACCES; }

// Why something the user asked for cannot be: one line that names the thing, says why
// and what to do.
struct [[nodiscard]] Failure {
  std::string message;
};

template <class T, class E = Errno>
class [[nodiscard]] Result {
 public:
  using value_type = T;
  Result(T value) : state_(std::in_place_index<1>, std::move(value)) {}
  Result(E error) : state_(std::in_place_index<0>, std::move(error)) {}

  explicit operator bool() const { return state_.index() == 1; }
  bool ok() const { return state_.index() == 1; }
  E error() const { return std::get<0>(state_); }
  T& value() & { return std::get<1>(state_); }
  const T& value() const& { return std::get<1>(state_); }
  T&& value() && { return std::get<1>(std::move(state_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

 private:
  std::variant<E, T> state_;
};

template <class E>
class [[nodiscard]] Result<void, E> {
 public:
  Result() = default;
  Result(E error) : error_(std::move(error)) {}

  explicit operator bool() const { return !error_; }
  bool ok() const { return !error_; }
  E error() const { return *error_; }

 private:
  std::optional<E> error_;
};

using Status = Result<void>;

// Drops a result on purpose; `why` is read by people only.
template <class T>
void ignore(const Result<T>&, const char* /*why*/) {}

}  // namespace layerfs

#define LFS_CONCAT_(a, b) a##b
#define LFS_CONCAT(a, b) LFS_CONCAT_(a, b)

// Returns the error of `expr` from the enclosing function, if it has one.
#define LFS_TRY(expr)                        \
  do {                                       \
    if (auto lfs_try_ = (expr); !lfs_try_) { \
      return lfs_try_.error();               \
    }                                        \
  } while (false)

#define LFS_ASSIGN_(temp, target, expr) \
  auto temp = (expr);                   \
  if (!temp) {                          \
    return temp.error();                \
  }                                     \
  target = std::move(temp).value()

// `LFS_ASSIGN(auto x, f())`: x is the value, or the error is returned.
#define LFS_ASSIGN(target, expr) LFS_ASSIGN_(LFS_CONCAT(lfs_assign_, __LINE__), target, expr)
