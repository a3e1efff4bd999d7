// Who the command runs as, by the container's own /etc/passwd and /etc/group. The host's
// name services are never asked.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "tools/common/problem.h"

namespace layerfs::run {

struct ContainerUser {
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;  // supplementary, the primary one included
  std::string home = "/";
};

// The texts of the container's two files; "" if there is none.
struct AccountFiles {
  std::string passwd;
  std::string group;
};

// Read below `root` as a process with that root sees them. Anything but a plain file is an
// error.
Outcome<AccountFiles> read_account_files(int root);

// "", USER, UID, USER:GROUP, UID:GID and the mixtures. A name wins over a number. With a
// group given, there are no further groups; else all groups of /etc/group that have the user.
Outcome<ContainerUser> find_user(std::string_view spec, const AccountFiles& files);

}  // namespace layerfs::run
