#include "fs/privileges.h"

#include <sys/capability.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <string_view>

namespace layerfs {
namespace {

// SYS_RESOURCE is not among them: with it what users write would count against no quota.
constexpr cap_value_t kNeeded[] = {
    // to read and make what the layers hold, with any owner and mode
    CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER, CAP_FSETID, CAP_MKNOD,
    CAP_LINUX_IMMUTABLE,
    // to create as the caller (caller_identity.cc)
    CAP_SETUID, CAP_SETGID,
    // trusted. attributes, passthrough, umount(2); capabilities and labels of files
    CAP_SYS_ADMIN, CAP_SETFCAP, CAP_MAC_ADMIN, CAP_MAC_OVERRIDE,
    // to see in /proc the rights of a caller who has more than these (caller_rights.cc)
    CAP_SYS_PTRACE};

using Capabilities = std::unique_ptr<std::remove_pointer_t<cap_t>, int (*)(void*)>;

bool has(cap_t set, cap_value_t value) {
  cap_flag_value_t flag = CAP_CLEAR;
  return ::cap_get_flag(set, value, CAP_PERMITTED, &flag) == 0 && flag == CAP_SET;
}

}  // namespace

Status drop_privileges() {
  const Capabilities now(::cap_get_proc(), ::cap_free);
  const Capabilities kept(::cap_init(), ::cap_free);
  if (!now || !kept) {
    return Errno::last();
  }
  for (const cap_value_t value : kNeeded) {
    if (has(now.get(), value)) {
      ::cap_set_flag(kept.get(), CAP_PERMITTED, 1, &value, CAP_SET);
      ::cap_set_flag(kept.get(), CAP_EFFECTIVE, 1, &value, CAP_SET);
    }
  }
  if (::cap_set_proc(kept.get()) != 0) {
    return Errno::last();
  }
  // A user's mount is ended by fusermount3, which is set-uid.
  if (::geteuid() == 0 && ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    return Errno::last();
  }
  return {};
}

Privileges privileges() {
  Privileges held;
  held.no_new_privileges = ::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1;
  const Capabilities now(::cap_get_proc(), ::cap_free);
  for (cap_value_t value = 0; now && value < ::cap_max_bits(); ++value) {
    if (has(now.get(), value)) {
      char* name = ::cap_to_name(value);
      held.capabilities.emplace_back(name != nullptr ? name : std::to_string(value));
      ::cap_free(name);
    }
  }
  return held;
}

bool has_initial_capability(pid_t thread, int capability) {
  // The number of that namespace is fixed (include/linux/proc_ns.h: PROC_USER_INIT_INO).
  const std::string link = "/proc/" + std::to_string(thread) + "/ns/user";
  char target[64];
  const ssize_t length = ::readlink(link.c_str(), target, sizeof target);
  if (length < 0 ||
      std::string_view(target, static_cast<std::size_t>(length)) != "user:[4026531837]") {
    return false;
  }
  const Capabilities held(::cap_get_pid(thread), ::cap_free);
  cap_flag_value_t value = CAP_CLEAR;
  return held && ::cap_get_flag(held.get(), capability, CAP_EFFECTIVE, &value) == 0 &&
         value == CAP_SET;
}

}  // namespace layerfs
