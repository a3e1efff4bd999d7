// A mount beside a plain directory of the same filesystem: what a system call does in one
// it must do in the other.
#pragma once

#include <catch2/catch.hpp>
#include <cerrno>
#include <functional>
#include <string>

#include "tests/testlib/test_mount.h"

namespace layerfs::testing {

// What a system call returned, and errno if it failed.
struct Outcome {
  long value;
  int error;
  friend bool operator==(const Outcome&, const Outcome&) = default;
};
inline std::ostream& operator<<(std::ostream& out, const Outcome& outcome) {
  return out << outcome.value << " errno " << outcome.error;
}
inline Outcome outcome(long value) { return {value, value < 0 ? errno : 0}; }

class Twin {
 public:
  // Makes the same objects in the lower and in the plain directory.
  explicit Twin(const std::function<void(const std::string& dir)>& populate, std::size_t lowers = 1)
      : mount_(lowers) {
    make_dirs(plain());
    populate(mount_.lower());
    populate(plain());
  }

  TestMount& mount() { return mount_; }
  void start(const std::string& options) { mount_.mount(options); }
  std::string at(const std::string& path = "") const { return mount_.at(path); }
  std::string plain(const std::string& path = "") const { return mount_.base() + "/plain/" + path; }

  // Checks that `call`, given each root with a slash at its end, has the same outcome in
  // both, and returns it.
  Outcome same(const std::function<long(const std::string& root)>& call) const {
    const Outcome expected = outcome(call(plain()));
    const Outcome actual = outcome(call(at()));
    CHECK(actual == expected);
    return actual;
  }
  // As above for anything that can be compared.
  template <class F>
  auto alike(F observe) const {
    const auto expected = observe(plain());
    const auto actual = observe(at());
    CHECK(actual == expected);
    return actual;
  }

 private:
  TestMount mount_;
};

}  // namespace layerfs::testing
