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
#include <sys/capability.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "fs/fuse_request.h"

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

// The capability counts only in the initial user namespace (fs/attr.c:
// setattr_should_drop_suidgid asks capable()), whose number is fixed
// (include/linux/proc_ns.h: PROC_USER_INIT_INO). A wrong thread's is no danger: root's
// caller could set the bits again.
bool has_cap_fsetid(pid_t thread) {
  const std::string link = "/proc/" + std::to_string(thread) + "/ns/user";
  char target[64];
  const ssize_t length = ::readlink(link.c_str(), target, sizeof target);
  if (length < 0 ||
      std::string_view(target, static_cast<std::size_t>(length)) != "user:[4026531837]") {
    return false;
  }
  const std::unique_ptr<std::remove_pointer_t<cap_t>, int (*)(void*)> capabilities(
      ::cap_get_pid(thread), ::cap_free);
  cap_flag_value_t value = CAP_CLEAR;
  return capabilities != nullptr &&
         ::cap_get_flag(capabilities.get(), CAP_FSETID, CAP_EFFECTIVE, &value) == 0 &&
         value == CAP_SET;
}

}  // namespace

CallerRights rights_of(fuse_req_t req) {
  const fuse_ctx& caller = *fuse_req_ctx(req);
  return {caller.uid,
          [req, &caller](gid_t group) {
            return caller.uid == 0 || caller.gid == group || in_supplementary_group(req, group);
          },
          [&caller] { return caller.uid == 0 && has_cap_fsetid(caller.pid); }};
}

}  // namespace layerfs
