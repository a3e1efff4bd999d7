// Which system calls the command may make.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "tools/common/problem.h"

namespace layerfs::run {

struct SeccompChoice {
  bool filtered = true;
  std::string program = {};  // the kernel's form of the filter
};

// "default", "unconfined" or a file with a profile in docker's JSON form. With capabilities
// the default allows what they are for. Making the kernel's form takes longer than anything
// else at a start: it is kept for the next one.
Outcome<SeccompChoice> choose_seccomp(const std::string& spec, std::uint64_t capabilities);

// From here on the calling process and its children are held to it. The process needs
// no_new_privs or CAP_SYS_ADMIN.
Outcome<void> load_seccomp(const SeccompChoice& choice);

}  // namespace layerfs::run
