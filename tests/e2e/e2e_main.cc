#define CATCH_CONFIG_RUNNER
#include <fcntl.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdio>

#include "tests/testlib/namespaces.h"

int main(int argc, char** argv) {
  constexpr int kSkipped = 77;
  const int fuse = ::open("/dev/fuse", O_RDWR | O_CLOEXEC);
  if (fuse < 0 || ::geteuid() != 0) {
    std::puts(fuse < 0 ? "SKIP: /dev/fuse cannot be opened" : "SKIP: needs root to mount");
    return kSkipped;
  }
  ::close(fuse);
  layerfs::testing::enter_namespaces();
  return Catch::Session().run(argc, argv);
}
