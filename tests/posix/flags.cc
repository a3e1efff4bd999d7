// Inode flags, as chattr(1) sets them.
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "tests/posix/objects.h"

using namespace layerfs::testing::posix;

namespace {

std::string set_no_dump(const char* path) {
  const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
  REQUIRE(fd >= 0);
  int flags = 0;
  long result = ::ioctl(fd, FS_IOC_GETFLAGS, &flags);
  flags |= FS_NODUMP_FL;
  result = result < 0 ? result : ::ioctl(fd, FS_IOC_SETFLAGS, &flags);
  std::string outcome = said(result);
  ::close(fd);
  return outcome;
}

}  // namespace

TEST_CASE("a change of inode flags changes ctime only", "[S-12]") {
  const Ground ground([] {
    make_file("file");
    make_dir("dir");
  });
  const Watch watch({"file", "dir"});
  const std::string outcome = set_no_dump("file");
  if (outcome == "ENOTTY" || outcome == "EOPNOTSUPP") {
    WARN("SKIP: the filesystem has no inode flags");
    return;
  }
  CHECK(outcome == "ok");
  CHECK(set_no_dump("dir") == "ok");
  CHECK(watch.later("file") == (stage().filesystem == "cached" ? "" : "c"));
  CHECK(watch.later("dir") == "c");
}
