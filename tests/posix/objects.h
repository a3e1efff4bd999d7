// Objects of every kind, and what can be seen of them.
#pragma once

#include <sys/stat.h>

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "tests/posix/ground.h"

namespace layerfs::testing::posix {

inline const User kRoot{0, 0, {}};
inline const User kOwner{1001, 1001, {}};
inline const User kOther{1002, 1002, {}};
inline constexpr gid_t kTeam = 4001;
inline const User kMember{1003, 1003, {kTeam}};  // in the team by a supplementary group

// "ok", or the name of the errno with which a system call failed.
std::string said(long result);

// Every kind of object by its name, without devices where they cannot be made.
const std::vector<std::string>& kinds();
std::vector<std::string> kinds_but(std::string_view left_out);

// A symbolic link keeps its own mode. Each throws std::system_error if it fails.
void make(const std::string& kind, const std::string& path, mode_t mode = 0644,
          const User& owner = kRoot);
void make_file(const std::string& path, mode_t mode = 0644, const User& owner = kRoot);
void make_dir(const std::string& path, mode_t mode = 0755, const User& owner = kRoot);
// One of every kind, each named as it is.
void make_all(mode_t mode = 0644, const User& owner = kRoot);
// Removes what is there, and is done if nothing is.
void remove(const std::string& path);

// As "file 0644 1001:1001", or the name of the errno.
std::string look(const std::string& path);
mode_t mode_of(const std::string& path);  // of what a symlink points to; without the kind

// Whether the names of an object that was made beforehand are those of one object also when
// it is changed (SEMANTICS.md, S-08).
bool copied_up_together(const std::string& kind);

// Opens, closes, and says what open said.
std::string try_open(const char* path, int flags, mode_t mode = 0644);

// Which times of some objects change.
class Watch {
 public:
  // Returns when a change of now has a later time than all there was.
  explicit Watch(const std::vector<std::string>& paths);
  // "m", "c" or both: what is later than it was; the object may have been renamed to `path`.
  std::string later(const std::string& was, const std::string& path) const;
  std::string later(const std::string& path) const { return later(path, path); }

 private:
  std::map<std::string, struct stat> was_;
};

}  // namespace layerfs::testing::posix
