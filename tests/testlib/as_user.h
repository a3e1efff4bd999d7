// System calls made with the ids of somebody else.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

namespace layerfs::testing {

struct User {
  uid_t uid;
  gid_t gid;
  std::vector<gid_t> groups;  // supplementary
};
std::string describe(const User& user);

// Runs `call` in a child process with the user's ids, without capabilities unless uid is
// 0. Returns 0, or the errno that it left if it returned a negative number.
int errno_as(const User& user, const std::function<long()>& call);

}  // namespace layerfs::testing
