// A system call filter in docker's JSON form.
#pragma once

#include <seccomp.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tools/common/problem.h"

namespace layerfs::run {

struct SeccompRule {
  std::vector<std::string> names;
  std::uint32_t action = 0;
  std::vector<scmp_arg_cmp> conditions;
};

struct SeccompProfile {
  std::uint32_t default_action = 0;
  std::vector<SeccompRule> rules;
};

// `capabilities` decide over rules with "includes" and "excludes". What is not understood
// is an error: a rule that is left out could be one that forbids.
Outcome<SeccompProfile> parse_seccomp_profile(std::string_view text, std::uint64_t capabilities);

}  // namespace layerfs::run
