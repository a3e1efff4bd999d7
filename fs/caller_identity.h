// Lets one system call be made with the ids and umask of the caller of a request.
#pragma once

#include <sys/types.h>

#include "layers/sys/result.h"

namespace layerfs {

// Sets the calling thread's filesystem ids (setfsuid(2), setfsgid(2)) and umask;
// restores the ids at the end of scope. Every thread that uses it must have its own
// filesystem attributes (sys::unshare_fs_attributes), or the umask is the process'.
// Ids equal to the daemon's cost nothing. With other ids the filesystem capabilities are
// gone too, and the kernel checks the stored directory as it would for the caller.
class CallerIdentity {
 public:
  CallerIdentity(uid_t uid, gid_t gid, mode_t umask);
  CallerIdentity(const CallerIdentity&) = delete;
  CallerIdentity& operator=(const CallerIdentity&) = delete;
  ~CallerIdentity();

  // EPERM: the process may not take these ids.
  Status status() const { return status_; }

 private:
  bool switched_ = false;
  Status status_;
};

}  // namespace layerfs
