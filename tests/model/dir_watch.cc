#include "tests/model/dir_watch.h"

#include <fcntl.h>
#include <unistd.h>

#include "tests/model/layer_spec.h"

namespace layerfs::model {

std::set<std::string> DirWatch::names(int oracle_fd) {
  std::set<std::string> out;
  // Another description: the position of the handle itself stays.
  const int fd = ::openat(oracle_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd >= 0) {
    std::vector<ListedName> listed;
    list_directory(fd, listed);
    ::close(fd);
    for (ListedName& entry : listed) {
      out.insert(std::move(entry.name));
    }
  }
  return out;
}

void DirWatch::begin(int oracle_fd) {
  active_ = true;
  stable_ = names(oracle_fd);
  ever_ = stable_;
  seen_.clear();
}

void DirWatch::changed(int oracle_fd, const Op& op) {
  if (!active_) {
    return;
  }
  const std::set<std::string> now = names(oracle_fd);
  std::erase_if(stable_, [&](const std::string& name) {
    return now.count(name) == 0 || name == name_of(op.p) || name == name_of(op.q);
  });
  ever_.insert(now.begin(), now.end());
}

Verdict DirWatch::read(const std::vector<ListedName>& entries) {
  if (!active_) {
    return std::nullopt;
  }
  for (const ListedName& entry : entries) {
    if (ever_.count(entry.name) == 0) {
      return Difference{"open directory",
                        "a handle lists " + entry.name + ", which never was there"};
    }
    if (++seen_[entry.name] > 1 && stable_.count(entry.name) != 0) {
      return Difference{"open directory", "a handle lists " + entry.name + " twice"};
    }
  }
  if (!entries.empty()) {
    return std::nullopt;
  }
  active_ = false;
  for (const std::string& name : stable_) {
    if (seen_.count(name) == 0) {
      return Difference{"open directory",
                        "a handle never lists " + name + ", which was there all the time"};
    }
  }
  return std::nullopt;
}

}  // namespace layerfs::model
