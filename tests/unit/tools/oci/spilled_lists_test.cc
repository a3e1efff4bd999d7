// Lists that grow with what a layer has, beyond what they keep in memory.
#include <catch2/catch.hpp>

#include "tools/oci/implied_directories.h"
#include "tools/oci/loss_list.h"

using namespace layerfs;
using namespace layerfs::oci;

namespace {

// More than a SpillLog keeps in memory, and a SpillTable in the tests' time.
constexpr int kMany = 20'000;

std::string name(int number) { return "d/the-name-number-" + std::to_string(number); }

}  // namespace

TEST_CASE("loss list: all come back in their order") {
  LossList list;
  CHECK(list.empty());
  for (int i = 0; i < kMany; ++i) {
    REQUIRE(list.add(name(i), "what " + std::to_string(i)));
  }
  CHECK(list.size() == kMany);
  CHECK(list.first().value().path == name(0));
  int at = 0;
  bool same = true;
  REQUIRE(list.for_each([&](const Loss& loss) -> Fallible<void> {
    same = same && loss.path == name(at) && loss.what == "what " + std::to_string(at);
    ++at;
    return {};
  }));
  CHECK(same);
  CHECK(at == kMany);
  const auto ended =
      list.for_each([](const Loss& /*loss*/) { return Fallible<void>(Failure{"enough"}); });
  REQUIRE_FALSE(ended);
  CHECK(ended.error().message == "enough");
}

TEST_CASE("implied directories: those left come back, the last first") {
  ImpliedDirectories directories;
  CHECK(directories.empty());
  for (int i = 0; i < kMany; ++i) {
    REQUIRE(directories.add(name(i)));
  }
  CHECK_FALSE(directories.remove("d").value());
  for (int i = 0; i < kMany; i += 2) {
    CHECK(directories.remove(name(i)).value());
  }
  CHECK_FALSE(directories.contains(name(0)).value());
  CHECK(directories.contains(name(1)).value());
  int at = kMany - 1;
  bool same = true;
  REQUIRE(directories.for_each([&](const std::string& path) -> Fallible<void> {
    same = same && path == name(at);
    at -= 2;
    return {};
  }));
  CHECK(same);
  CHECK(at == -1);
  for (int i = 1; i < kMany; i += 2) {
    CHECK(directories.remove(name(i)).value());
  }
  CHECK(directories.empty());
}
