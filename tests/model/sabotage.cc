#include "tests/model/sabotage.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <iterator>

namespace layerfs::model {

std::optional<Sabotage> sabotage_from(const std::string& word) {
  static constexpr const char* kWords[] = {"none", "mode", "owner", "time", "content",
                                           "size", "name", "xattr", "link", "target"};
  for (std::size_t i = 0; i < std::size(kWords); ++i) {
    if (word == kWords[i]) {
      return static_cast<Sabotage>(i);
    }
  }
  return std::nullopt;
}

void sabotage(Sabotage kind, int oracle_root, int mount_root) {
  if (::fchdir(mount_root) < 0) {
    return;
  }
  const struct timespec old[2] = {{77, 0}, {77, 0}};
  // Only what a run leaves alone, so that it is the comparison that finds it.
  switch (kind) {
    case Sabotage::None:
      break;
    case Sabotage::Mode:
      ::chmod(".", 0712);
      break;
    case Sabotage::Owner:
      (void)!::chown(".", 4242, 0);
      break;
    case Sabotage::Time:
      ::utimensat(AT_FDCWD, ".", old, 0);
      break;
    case Sabotage::Name:
      ::mknod("zz", S_IFREG | 0600, 0);
      break;
    case Sabotage::Xattr:
      ::setxattr(".", "user.zz", "1", 1, 0);
      break;
    default: {
      // Needs an object of its own on both sides.
      for (const int root : {oracle_root, mount_root}) {
        (void)!::fchdir(root);
        const bool damaged = root == mount_root;
        const int fd = ::open("zz", O_CREAT | O_RDWR | O_CLOEXEC, 0600);
        (void)!::pwrite(fd, damaged && kind == Sabotage::Content ? "x" : "y", 1, 5000);
        (void)!::ftruncate(fd, damaged && kind == Sabotage::Size ? 6000 : 6001);
        ::close(fd);
        (void)!::symlink(damaged && kind == Sabotage::Target ? "x" : "y", "zs");
        damaged&& kind == Sabotage::Link ? (void)::mknod("zl", 0100600, 0)
                                         : (void)!::link("zz", "zl");
        ::utimensat(AT_FDCWD, "zz", old, 0);
        ::utimensat(AT_FDCWD, "zl", old, 0);
        ::utimensat(AT_FDCWD, ".", old, 0);
      }
    }
  }
}

}  // namespace layerfs::model
