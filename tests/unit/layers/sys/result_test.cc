#include "layers/sys/result.h"

#include <catch2/catch.hpp>
#include <memory>

using namespace layerfs;

namespace {

Result<int> half(int value) { return value % 2 == 0 ? Result<int>(value / 2) : Errno(EDOM); }
Result<int> quarter(int value) {
  LFS_ASSIGN(const int once, half(value));
  LFS_ASSIGN(const int twice, half(once));
  return twice;
}
Status is_even(int value) {
  LFS_TRY(half(value));
  return {};
}

}  // namespace

TEST_CASE("result: an errno is never 0 or negative, so that no error passes for success") {
  CHECK(Errno(ENOENT).value() == ENOENT);
  CHECK(Errno(0).value() == EIO);
  CHECK(Errno(-ENOENT).value() == EIO);
}

TEST_CASE("result: only ENOENT, ENOTDIR and ENAMETOOLONG mean absent") {
  for (int error = 1; error < 200; ++error) {
    CHECK(is_absence(Errno(error)) ==
          (error == ENOENT || error == ENOTDIR || error == ENAMETOOLONG));
  }
}

TEST_CASE("result: only ENODATA and EOPNOTSUPP mean that there is no attribute") {
  for (int error = 1; error < 200; ++error) {
    CHECK(is_no_attribute(Errno(error)) == (error == ENODATA || error == EOPNOTSUPP));
  }
}

TEST_CASE("result: the first error is returned, else the value") {
  CHECK(*quarter(8) == 2);
  CHECK(quarter(6).error() == Errno(EDOM));
  CHECK(quarter(7).error() == Errno(EDOM));
  CHECK(is_even(2).ok());
  CHECK(is_even(3).error() == Errno(EDOM));
}

TEST_CASE("result: a value that can only be moved is moved") {
  Result<std::unique_ptr<int>> result = std::make_unique<int>(5);
  REQUIRE(result);
  const std::unique_ptr<int> value = std::move(*result);
  CHECK(*value == 5);
}

TEST_CASE("result: an errno is told in words") {
  CHECK(describe(Errno(ENOSPC)) == "No space left on device");
}
