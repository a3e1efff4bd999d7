#include "fs/caller_identity.h"

#include <sys/fsuid.h>
#include <unistd.h>

#include "layers/sys/syscalls.h"

namespace layerfs {
namespace {

struct DaemonIds {
  uid_t uid = ::geteuid();
  gid_t gid = ::getegid();
};

const DaemonIds& daemon_ids() {
  static const DaemonIds ids;
  return ids;
}

// The umask this thread has now: mostly it is asked for the same one again.
thread_local mode_t current_umask = static_cast<mode_t>(-1);

}  // namespace

CallerIdentity::CallerIdentity(uid_t uid, gid_t gid, mode_t umask) {
  if (current_umask != umask) {
    sys::set_thread_umask(umask);
    current_umask = umask;
  }
  if (uid == daemon_ids().uid && gid == daemon_ids().gid) {
    return;
  }
  switched_ = true;
  ::setfsgid(gid);
  ::setfsuid(uid);
  // The calls answer with the previous id only; asking for an impossible one tells.
  if (static_cast<uid_t>(::setfsuid(static_cast<uid_t>(-1))) != uid ||
      static_cast<gid_t>(::setfsgid(static_cast<gid_t>(-1))) != gid) {
    status_ = Errno(EPERM);
  }
}

CallerIdentity::~CallerIdentity() {
  if (switched_) {
    ::setfsuid(daemon_ids().uid);
    ::setfsgid(daemon_ids().gid);
  }
}

}  // namespace layerfs
