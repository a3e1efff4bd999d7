#include "tools/run/pty.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "layers/sys/syscalls.h"
#include "tools/run/cannot.h"
#include "tools/run/mount_calls.h"

namespace layerfs::run {
Outcome<Pty> open_container_pty(uid_t owner) {
  Pty out;
  auto master = sys::open_path("/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_NOFOLLOW);
  if (!master) {
    return cannot("open a terminal", master.error());
  }
  out.master = std::move(*master);
  struct stat st {};
  struct statfs fs {};
  if (::fstat(out.master.get(), &st) < 0 || ::fstatfs(out.master.get(), &fs) < 0 ||
      fs.f_type != DEVPTS_SUPER_MAGIC || st.st_rdev != makedev(5, 2)) {
    return failed("the container's /dev/pts/ptmx is not a terminal multiplexer");
  }
  int unlocked = 0;
  ::ioctl(out.master.get(), TIOCSPTLCK, &unlocked);
  // By the descriptor: the name /dev/pts/N could be something else by now.
  out.slave = UniqueFd(::ioctl(out.master.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!out.slave) {
    return cannot("open a terminal", Errno::last());
  }
  if (::fchown(out.slave.get(), owner, static_cast<gid_t>(-1)) < 0) {
    return cannot("give the terminal to the user", Errno::last());
  }
  return out;
}

Outcome<void> make_console(const Pty& pty) {
  const auto dev = sys::open_path("/dev", O_PATH | O_DIRECTORY | O_NOFOLLOW);
  if (!dev) {
    return cannot("open /dev", dev.error());
  }
  if (const auto made = sys::mknod_at({dev->get(), "console"}, S_IFREG | 0600, 0); !made) {
    return cannot("make /dev/console", made.error());
  }
  const auto target = sys::open_at({dev->get(), "console"}, O_PATH);
  const auto copy = clone_mounts(pty.slave.get(), "");
  if (!target || !copy) {
    return cannot("make /dev/console", target ? copy.error() : target.error());
  }
  const auto done = attach(copy->get(), target->get());
  return done ? Outcome<void>() : Outcome<void>(cannot("mount /dev/console", done.error()));
}

}  // namespace layerfs::run
