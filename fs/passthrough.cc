#include "fs/passthrough.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/capability.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "fs/privileges.h"

namespace layerfs {
namespace {

// include/uapi/linux/fuse.h, which Debian 12 has without them.
struct BackingMap {
  std::int32_t fd;
  std::uint32_t flags;
  std::uint64_t padding;
};
constexpr unsigned kMagic = 229;
constexpr unsigned long kBackingOpen = _IOW(kMagic, 1, BackingMap);
constexpr unsigned long kBackingClose = _IOW(kMagic, 2, std::uint32_t);

constexpr bool kLibfuseHasIt = FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17);

bool is_stacked(const Layer& layer) {
  struct statfs st {};
  if (::fstatfs(layer.root.get(), &st) != 0) {
    return true;
  }
  return st.f_type == OVERLAYFS_SUPER_MAGIC || st.f_type == FUSE_SUPER_MAGIC ||
         st.f_type == ECRYPTFS_SUPER_MAGIC;
}

Failure refuse(const std::string& why) {
  return Failure{"--io passthrough cannot be had: " + why + "; use --io auto"};
}

// Without an upper only the right to it can be tried: whether there is a file in a lower,
// and whether it can be read, is not to matter.
Result<UniqueFd> some_file(WritableLayer* upper) {
  if (upper == nullptr) {
    UniqueFd fd(::memfd_create("layerfs-passthrough", MFD_CLOEXEC));
    return fd ? Result<UniqueFd>(std::move(fd)) : Errno::last();
  }
  Workdir& work = upper->workdir();
  TempEntry entry(work.fd(), work.temp_name());
  return sys::open_at(entry.at(), O_CREAT | O_EXCL | O_RDWR, 0600);
}

Status try_backing(int device, int file) {
  const BackingMap map{file, 0, 0};
  const int id = ::ioctl(device, kBackingOpen, &map);
  if (id < 0) {
    return Errno::last();
  }
  const auto registered = static_cast<std::uint32_t>(id);
  return ::ioctl(device, kBackingClose, &registered) < 0 ? Status(Errno::last()) : Status();
}

}  // namespace

bool may_pass_through(const LayerStack& layers) {
  if (!kLibfuseHasIt || !has_initial_capability(::gettid(), CAP_SYS_ADMIN)) {
    return false;
  }
  for (LayerIndex index = 0; index < layers.size(); ++index) {
    if (is_stacked(layers.at(index))) {
      return false;
    }
  }
  return true;
}

Result<void, Failure> check_passthrough(FuseContext& context) {
  if (!kLibfuseHasIt) {
    return refuse("layerfsd was built with libfuse " + std::string(fuse_pkgversion()) +
                  ", and 3.17 is needed");
  }
  if (!context.passthrough_granted) {
    return refuse("this kernel does not offer it, Linux 6.9 and later do");
  }
  const auto file = some_file(context.fs.upper());
  const Status tried =
      file ? try_backing(fuse_session_fd(context.session), file->get()) : Status(file.error());
  if (tried) {
    return {};
  }
  switch (tried.error().value()) {
    case EPERM:
      return refuse("it needs CAP_SYS_ADMIN outside of user namespaces, as root has");
    case ELOOP:
      return refuse("the upper is on a filesystem that itself stands on another");
    default:
      return refuse("trying it on the upper gave: " + describe(tried.error()));
  }
}

}  // namespace layerfs
