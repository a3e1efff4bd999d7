#include "fs/fuse_node_bound.h"

#include <catch2/catch.hpp>

#include "tests/testlib/files.h"

using namespace layerfs;
using namespace layerfs::testing;

TEST_CASE("the limit of memory is the least of a group and those around it, in both versions") {
  const TempDir root;
  make_dirs(root.at("a/b"));
  write_file(root.at("a/memory.max"), "70000000\n");
  write_file(root.at("a/b/memory.max"), "max\n");
  CHECK(memory_limit("0::/a/b", root.path()) == 70000000);
  write_file(root.at("a/b/memory.max"), "60000000\n");
  CHECK(memory_limit("0::/a/b", root.path()) == 60000000);
  CHECK_FALSE(memory_limit("0::/", root.path()));

  make_dirs(root.at("memory/c"));
  write_file(root.at("memory/memory.limit_in_bytes"), "9223372036854771712\n");
  write_file(root.at("memory/c/memory.limit_in_bytes"), "67108864\n");
  CHECK(memory_limit("5:memory:/c", root.path()) == 67108864);
  CHECK(memory_limit("5:cpu,memory:/c", root.path()) == 67108864);
  CHECK_FALSE(memory_limit("5:cpu,memory_x:/c", root.path()));
  CHECK_FALSE(memory_limit("nonsense", root.path()));
}
