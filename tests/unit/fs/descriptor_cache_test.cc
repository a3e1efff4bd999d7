#include "fs/descriptor_cache.h"

#include <fcntl.h>
#include <unistd.h>

#include <catch2/catch.hpp>

using namespace layerfs;

namespace {

SharedFd open_null() { return share(UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC))); }
bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

}  // namespace

TEST_CASE("descriptor cache: a descriptor is found by node and use, and by nothing else") {
  DescriptorCache cache(10);
  const SharedFd fd = open_null();
  cache.put(DescriptorKey::reading(7), fd);
  CHECK(cache.find(DescriptorKey::reading(7)) == fd);
  CHECK(cache.find(DescriptorKey::writing(7)) == nullptr);
  CHECK(cache.find(DescriptorKey::reading(8)) == nullptr);
  CHECK(cache.find(DescriptorKey::directory(7, 0)) == nullptr);
}

TEST_CASE("descriptor cache: beyond the limit the least recently used goes") {
  DescriptorCache cache(3);
  for (NodeId node = 1; node <= 3; ++node) {
    cache.put(DescriptorKey::reading(node), open_null());
  }
  CHECK(cache.find(DescriptorKey::reading(1)) != nullptr);  // used now
  cache.put(DescriptorKey::reading(4), open_null());
  CHECK(cache.size() == 3);
  CHECK(cache.find(DescriptorKey::reading(2)) == nullptr);
  CHECK(cache.find(DescriptorKey::reading(1)) != nullptr);
  CHECK(cache.find(DescriptorKey::reading(3)) != nullptr);
}

TEST_CASE("descriptor cache: what goes is closed, unless somebody uses it, then afterwards") {
  DescriptorCache cache(1);
  cache.put(DescriptorKey::reading(1), open_null());
  SharedFd used = cache.find(DescriptorKey::reading(1));
  const int number = used->get();
  cache.put(DescriptorKey::reading(2), open_null());
  CHECK(cache.find(DescriptorKey::reading(1)) == nullptr);
  CHECK(is_open(number));
  used.reset();
  CHECK_FALSE(is_open(number));
}

TEST_CASE("descriptor cache: a second descriptor for the same use takes the first one's place") {
  DescriptorCache cache(10);
  const SharedFd second = open_null();
  cache.put(DescriptorKey::reading(1), open_null());
  cache.put(DescriptorKey::reading(1), second);
  CHECK(cache.size() == 1);
  CHECK(cache.find(DescriptorKey::reading(1)) == second);
}

TEST_CASE("descriptor cache: dropping a node's data leaves its directories and other nodes") {
  DescriptorCache cache(10);
  cache.put(DescriptorKey::reading(1), open_null());
  cache.put(DescriptorKey::writing(1), open_null());
  cache.put(DescriptorKey::directory(1, 2), open_null());
  cache.put(DescriptorKey::reading(2), open_null());
  cache.drop_data(1);
  CHECK(cache.find(DescriptorKey::reading(1)) == nullptr);
  CHECK(cache.find(DescriptorKey::writing(1)) == nullptr);
  CHECK(cache.find(DescriptorKey::directory(1, 2)) != nullptr);
  CHECK(cache.find(DescriptorKey::reading(2)) != nullptr);
  cache.drop(1);
  CHECK(cache.find(DescriptorKey::directory(1, 2)) == nullptr);
  CHECK(cache.size() == 1);
  cache.drop(3);
  CHECK(cache.size() == 1);
}

TEST_CASE("descriptor cache: the number of open descriptors stays at the limit") {
  constexpr std::size_t kLimit = 16;
  DescriptorCache cache(kLimit);
  const int before = open_null()->get();
  for (NodeId node = 1; node <= 1000; ++node) {
    cache.put(DescriptorKey::directory(node, static_cast<LayerIndex>(node % 5)), open_null());
    REQUIRE(cache.size() <= kLimit);
  }
  const SharedFd next = open_null();
  CHECK(next->get() <= before + static_cast<int>(kLimit) + 1);
}
