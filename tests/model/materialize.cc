#include "tests/model/materialize.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <stdexcept>

#include "tests/model/random.h"

namespace layerfs::model {
namespace {

using Type = LayerEntry::Type;

void check(bool ok, const std::string& what) {
  if (!ok) {
    throw std::runtime_error(what + ": " + std::strerror(errno));
  }
}

void write_file(const std::string& path, const LayerEntry& entry) {
  const int fd = ::open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
  check(fd >= 0, "create " + path);
  std::vector<unsigned char> data(static_cast<std::size_t>(entry.piece));
  std::int64_t at = 0;
  for (std::int64_t i = 0; i < entry.pieces && entry.piece > 0; ++i) {
    fill_data(static_cast<std::uint64_t>(entry.fill + i), 0, data.data(), data.size());
    check(::pwrite(fd, data.data(), data.size(), at) == entry.piece, "write " + path);
    at += entry.piece + entry.hole;
  }
  check(::ftruncate(fd, entry.size()) == 0, "truncate " + path);
  ::close(fd);
}

void create(const std::string& path, const LayerEntry& entry) {
  switch (entry.type) {
    case Type::Directory:
      check(::mkdir(path.c_str(), 0700) == 0, "mkdir " + path);
      break;
    case Type::File:
      write_file(path, entry);
      break;
    case Type::Symlink:
      check(::symlink(entry.target.c_str(), path.c_str()) == 0, "symlink " + path);
      break;
    case Type::Node:
      check(::mknod(path.c_str(), entry.mode, static_cast<dev_t>(entry.device)) == 0,
            "mknod " + path);
      break;
    case Type::Whiteout:
      if (entry.form == "device") {
        check(::mknod(path.c_str(), S_IFCHR, makedev(0, 0)) == 0, "mknod " + path);
      } else {
        const std::string name = path.substr(0, path.rfind('/') + 1) + ".wh." + name_of(path);
        check(::mknod(name.c_str(), S_IFREG | 0644, 0) == 0, "create " + name);
      }
      break;
  }
}

void set_xattr(const std::string& path, const std::string& name, const std::string& value) {
  check(::lsetxattr(path.c_str(), name.c_str(), value.data(), value.size(), 0) == 0,
        "set " + name + " of " + path);
}

// In the order in which none undoes another: owner, mode, attributes, times.
void set_attributes(const std::string& path, const LayerEntry& entry) {
  if (entry.type == Type::Whiteout) {
    return;
  }
  check(::lchown(path.c_str(), entry.uid, entry.gid) == 0, "chown " + path);
  if (entry.type != Type::Symlink) {
    check(::chmod(path.c_str(), entry.mode & 07777U) == 0, "chmod " + path);
  }
  for (const auto& [name, value] : entry.xattrs) {
    set_xattr(path, name, value);
  }
}

void set_times(const std::string& path, const LayerEntry& entry) {
  const struct timespec times[2] = {{entry.seconds, entry.nanoseconds},
                                    {entry.seconds, entry.nanoseconds}};
  check(::utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW) == 0, "utimens " + path);
}

void mark_opaque(const std::string& path, const std::string& form) {
  if (form == "trusted") {
    set_xattr(path, "trusted.overlay.opaque", "y");
  } else if (form == "user") {
    set_xattr(path, "user.overlay.opaque", "y");
  } else if (form == "fuseoverlayfs") {
    set_xattr(path, "user.fuseoverlayfs.opaque", "y");
  } else if (form == "marker" || form == "shadow") {
    const std::string marker = form == "marker"
                                   ? path + "/.wh..wh..opq"
                                   : path.substr(0, path.rfind('/') + 1) + ".wh." + name_of(path);
    check(::mknod(marker.c_str(), S_IFREG | 0644, 0) == 0, "create " + marker);
  }
}

std::string at(const std::string& root, const std::string& path) {
  return path == "." ? root : root + "/" + path;
}

}  // namespace

void write_layer(const std::string& root, const LayerSpec& layer) {
  for (const auto& [path, entry] : layer) {
    if (entry.link_of.empty()) {
      create(at(root, path), entry);
    }
  }
  for (const auto& [path, entry] : layer) {
    if (!entry.link_of.empty()) {
      check(::link(at(root, entry.link_of).c_str(), at(root, path).c_str()) == 0, "link " + path);
    }
  }
  for (const auto& [path, entry] : layer) {
    if (entry.link_of.empty()) {
      set_attributes(at(root, path), entry);
      mark_opaque(at(root, path), entry.form);
    }
  }
  // Times last, children before their parents' parents: creation touches directories.
  for (auto it = layer.rbegin(); it != layer.rend(); ++it) {
    if (it->second.link_of.empty() && it->second.type != Type::Whiteout) {
      set_times(at(root, it->first), it->second);
    }
  }
}

void write_merged(const std::string& root, const std::string& ghosts, const MergedTree& tree) {
  LayerSpec plain = tree.entries;
  std::vector<std::pair<std::string, int>> hidden;
  for (std::size_t i = 0; i < tree.links.size(); ++i) {
    const std::vector<std::string>& names = tree.links[i];
    // The map creates in path order, so the smallest name must be the one that exists.
    const std::string first = *std::min_element(names.begin(), names.end());
    for (const std::string& name : names) {
      if (name != first) {
        plain[name].link_of = first;
      }
    }
    hidden.emplace_back(first, tree.hidden_names[i]);
  }
  write_layer(root, plain);
  check(::mkdir(ghosts.c_str(), 0700) == 0, "mkdir " + ghosts);
  int number = 0;
  for (const auto& [first, count] : hidden) {
    for (int i = 0; i < count; ++i) {
      const std::string ghost = ghosts + "/" + std::to_string(number++);
      check(::linkat(AT_FDCWD, at(root, first).c_str(), AT_FDCWD, ghost.c_str(), 0) == 0,
            "link " + ghost);
    }
  }
}

void copy_directory_attributes(const std::string& from, const std::string& to) {
  struct stat st {};
  check(::lstat(from.c_str(), &st) == 0, "stat " + from);
  check(::chown(to.c_str(), st.st_uid, st.st_gid) == 0, "chown " + to);
  check(::chmod(to.c_str(), st.st_mode & 07777U) == 0, "chmod " + to);
  char names[8192];
  const ssize_t length = ::llistxattr(from.c_str(), names, sizeof names);
  for (ssize_t i = 0; i < length; i += static_cast<ssize_t>(std::strlen(names + i)) + 1) {
    char value[4096];
    const ssize_t size = ::lgetxattr(from.c_str(), names + i, value, sizeof value);
    if (size >= 0) {
      set_xattr(to, names + i, std::string(value, static_cast<std::size_t>(size)));
    }
  }
  const struct timespec times[2] = {st.st_atim, st.st_mtim};
  check(::utimensat(AT_FDCWD, to.c_str(), times, 0) == 0, "utimens " + to);
}

void forget_link_counts(const std::string& upper) {
  for (const auto& entry : std::filesystem::recursive_directory_iterator(upper)) {
    if (!std::filesystem::is_directory(entry.symlink_status())) {
      ::lremovexattr(entry.path().c_str(), "trusted.overlay.nlink");
      ::lremovexattr(entry.path().c_str(), "user.overlay.nlink");
    }
  }
}

void remove_recursively(const std::string& path) {
  std::error_code ignored;  // what is left shows when the name is used again
  std::filesystem::remove_all(path, ignored);
}

}  // namespace layerfs::model
