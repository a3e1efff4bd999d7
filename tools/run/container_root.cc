#include "tools/run/container_root.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>

#include "layers/sys/syscalls.h"
#include "tools/run/cannot.h"
#include "tools/run/state.h"
#include "tools/run/text_file.h"

namespace layerfs::run {
namespace {

Outcome<void> join_user_namespace(const std::string& proc) {
  const auto fd = sys::open_path(proc + "/ns/user", O_RDONLY);
  if (!fd || ::setns(fd->get(), CLONE_NEWUSER) < 0) {
    return cannot("join the container's user namespace", fd ? Errno::last() : fd.error());
  }
  return {};
}

}  // namespace

Outcome<Located> join_root(const std::string& name) {
  LFS_ASSIGN(const ContainerState state, read_state(name));
  // Its daemon lives at least as long.
  LFS_ASSIGN(const UniqueFd process, open_container(state));
  const std::string proc = "/proc/" + std::to_string(state.daemon);
  if (::geteuid() != 0) {
    LFS_TRY(join_user_namespace(proc));
  }
  LFS_ASSIGN(const std::string table, read_text(proc + "/mountinfo"));
  const std::vector<MountEntry> mounts = parse_mountinfo(table);
  const auto root = std::find_if(mounts.begin(), mounts.end(), [&](const MountEntry& one) {
    return one.mount_point == state.root && is_layerfs(one);
  });
  if (root == mounts.end()) {
    return failed("the root of the container '" + name + "' is not mounted");
  }
  Located out;
  out.mount = *root;
  out.path = out.mount.mount_point = proc + "/root" + state.root;
  out.is_mount_point = true;
  out.inside = "/";
  return out;
}

}  // namespace layerfs::run
