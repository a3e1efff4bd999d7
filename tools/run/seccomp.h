// Which system calls the command may make.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "tools/common/problem.h"

namespace layerfs::run {

struct SeccompChoice {
  bool filtered = true;
  std::string profile = {};  // text of a profile in docker's JSON form; "": the built-in one
};

// "default", "unconfined" or a file.
Outcome<SeccompChoice> choose_seccomp(const std::string& spec);

// From here on the calling process and its children are held to it. With capabilities the
// default allows what they are for. The process needs no_new_privs or CAP_SYS_ADMIN.
Outcome<void> load_seccomp(const SeccompChoice& choice, std::uint64_t capabilities);

}  // namespace layerfs::run
