// What a FUSE request does not say of its caller: supplementary groups and capabilities.
//
// Most of /proc/PID waits for the task's exec_update_lock (fs/proc of Linux 6.18.44: ns/* and
// stat do; status does not, nor does capget). An execve holds it from fs/exec.c: exec_mmap to
// setup_new_exec, and in between closes descriptors and unmaps memory: SETATTR of mtime and
// ctime (fs/fuse/dir.c: fuse_flush_times), WRITE of pages, FLUSH. A daemon that looked at the
// caller for one of these would wait for its client and the client for it. So rights are asked
// only for requests that a thread sends in another system call, and only of that thread: while
// it waits for the answer no execve of its process gets as far as the lock, for it first waits
// for its other threads to end (fs/exec.c: de_thread).
#include <linux/capability.h>

#include <algorithm>
#include <vector>

#include "fs/fuse_request.h"
#include "fs/privileges.h"

namespace layerfs {
namespace {

// Not a member where they cannot be told, as of a caller in another pid namespace: then a
// bit is dropped that could have stayed.
bool in_supplementary_group(fuse_req_t req, gid_t group) {
  std::vector<gid_t> groups(32);
  int count = fuse_req_getgroups(req, static_cast<int>(groups.size()), groups.data());
  if (count > static_cast<int>(groups.size())) {
    groups.resize(static_cast<std::size_t>(count));
    count = fuse_req_getgroups(req, count, groups.data());
  }
  const auto end = groups.begin() + std::clamp<std::ptrdiff_t>(count, 0, std::ssize(groups));
  return std::find(groups.begin(), end, group) != end;
}

}  // namespace

CallerRights rights_of(fuse_req_t req) {
  const fuse_ctx& caller = *fuse_req_ctx(req);
  return {caller.uid,
          [req, &caller](gid_t group) {
            return caller.uid == 0 || caller.gid == group || in_supplementary_group(req, group);
          },
          // As fs/attr.c asks (setattr_should_drop_suidgid). A wrong thread's is no danger: root's
          // caller could set the bits again.
          [&caller] { return caller.uid == 0 && has_initial_capability(caller.pid, CAP_FSETID); }};
}

}  // namespace layerfs
