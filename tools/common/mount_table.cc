#include "tools/common/mount_table.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <climits>
#include <fstream>
#include <iterator>
#include <optional>
#include <sstream>

#include "layers/sys/result.h"
#include "layers/sys/unique_fd.h"

namespace layerfs {
namespace {

std::optional<MountEntry> parse_line(const std::string& line) {
  std::istringstream in(line);
  MountEntry entry;
  char colon = 0;
  std::string root;
  std::string point;
  std::string word;
  in >> entry.id >> entry.parent >> entry.major >> colon >> entry.minor >> root >> point >> word;
  while (in >> word && word != "-") {
  }
  std::string source;
  in >> entry.type >> source >> entry.super_options;
  if (!in || colon != ':') {
    return std::nullopt;
  }
  entry.root = unescape_mountinfo(root);
  entry.mount_point = unescape_mountinfo(point);
  entry.source = unescape_mountinfo(source);
  return entry;
}

Problem cannot_look(const std::string& path, int error) {
  return failed("cannot look at '" + path + "': " +
                (error == ENOTCONN ? "the daemon of its mount is gone; remove the mount with "
                                     "'layerfs umount MOUNTPOINT'"
                                   : describe(Errno(error))));
}

Outcome<std::string> path_of(int fd, const std::string& asked) {
  std::array<char, PATH_MAX + 1> buffer{};
  const std::string link = "/proc/self/fd/" + std::to_string(fd);
  const ssize_t size = ::readlink(link.c_str(), buffer.data(), buffer.size());
  if (size < 0) {
    return cannot_look(asked, errno);
  }
  return std::string(buffer.data(), static_cast<std::size_t>(size));
}

std::uint32_t id_option(const MountEntry& entry, std::string_view key) {
  std::istringstream in(entry.super_options);
  for (std::string word; std::getline(in, word, ',');) {
    std::uint32_t id = 0;
    if (word.starts_with(key) &&
        std::from_chars(word.data() + key.size(), word.data() + word.size(), id).ec ==
            std::errc()) {
      return id;
    }
  }
  return 0;
}

Outcome<std::uint64_t> mount_id_of(int fd, const std::string& asked) {
  std::ifstream in("/proc/self/fdinfo/" + std::to_string(fd));
  std::string key;
  while (in >> key) {
    std::uint64_t id = 0;
    if (key == "mnt_id:" && in >> id) {
      return id;
    }
  }
  return failed("cannot tell which mount '" + asked + "' is on; is /proc mounted?");
}

// "/a/b" below "/a" is "/b"; "/a" itself is "".
std::optional<std::string> strip_prefix(const std::string& path, const std::string& prefix) {
  if (prefix == "/") {
    return path == "/" ? "" : path;
  }
  if (!path.starts_with(prefix) || (path.size() > prefix.size() && path[prefix.size()] != '/')) {
    return std::nullopt;
  }
  return path.substr(prefix.size());
}

std::string join(const std::string& directory, const std::string& rest) {
  const std::string joined = (directory == "/" ? "" : directory) + rest;
  return joined.empty() ? "/" : joined;
}

Outcome<Located> locate_fd(int fd, const std::string& asked, const std::string& missing_name) {
  auto path = path_of(fd, asked);
  if (!path) {
    return path.error();
  }
  auto id = mount_id_of(fd, asked);
  if (!id) {
    return id.error();
  }
  auto table = read_mount_table();
  if (!table) {
    return table.error();
  }
  const auto entry = std::find_if(table->begin(), table->end(),
                                  [&](const MountEntry& candidate) { return candidate.id == *id; });
  const auto rest = entry == table->end() ? std::nullopt : strip_prefix(*path, entry->mount_point);
  if (!rest) {
    return failed("'" + asked + "' is on a mount that this process cannot see");
  }
  const std::string below = missing_name.empty() ? *rest : *rest + "/" + missing_name;
  Located out;
  out.path = join(entry->mount_point, below);
  out.mount = *entry;
  out.is_mount_point = below.empty();
  out.inside = join(entry->root, below);
  return out;
}

}  // namespace

// Space, tab, newline and backslash are written as three octal digits.
std::string unescape_mountinfo(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    unsigned value = 0;
    if (text[i] == '\\' && i + 3 < text.size() &&
        std::from_chars(&text[i + 1], &text[i + 1] + 3, value, 8).ptr == &text[i + 1] + 3) {
      out.push_back(static_cast<char>(value));
      i += 3;
    } else {
      out.push_back(text[i]);
    }
  }
  return out;
}

std::vector<MountEntry> parse_mountinfo(std::string_view text) {
  std::vector<MountEntry> out;
  std::istringstream in{std::string(text)};
  for (std::string line; std::getline(in, line);) {
    if (auto entry = parse_line(line)) {
      out.push_back(*std::move(entry));
    }
  }
  return out;
}

Outcome<std::vector<MountEntry>> read_mount_table() {
  std::ifstream in("/proc/self/mountinfo");
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  if (text.empty()) {
    return failed("cannot read /proc/self/mountinfo; mount /proc first");
  }
  return parse_mountinfo(text);
}

bool is_layerfs(const MountEntry& entry) { return entry.type == "fuse.layerfs"; }

uid_t mount_owner(const MountEntry& entry) { return id_option(entry, "user_id="); }

gid_t mount_group(const MountEntry& entry) { return id_option(entry, "group_id="); }

Outcome<Located> locate(const std::string& path, LastComponent last) {
  if (path.empty()) {
    return usage_error("the path is empty");
  }
  const int nofollow = last == LastComponent::AsIs ? O_NOFOLLOW : 0;
  const UniqueFd object(::open(path.c_str(), O_PATH | O_CLOEXEC | nofollow));
  if (object) {
    return locate_fd(object.get(), path, "");
  }
  if (last == LastComponent::Follow || errno != ENOENT) {
    return cannot_look(path, errno);
  }
  std::string trimmed = path;
  while (trimmed.size() > 1 && trimmed.back() == '/') {
    trimmed.pop_back();
  }
  const std::size_t slash = trimmed.rfind('/');
  const std::string parent = slash == std::string::npos ? "." : trimmed.substr(0, slash + 1);
  const UniqueFd directory(::open(parent.c_str(), O_PATH | O_CLOEXEC | O_DIRECTORY));
  if (!directory) {
    return cannot_look(path, errno);
  }
  return locate_fd(directory.get(), path,
                   slash == std::string::npos ? trimmed : trimmed.substr(slash + 1));
}

std::optional<MountAt> mount_at(const std::string& path) {
  // Without a question, so that no filesystem is asked. Linux 5.8.
  struct statx st {};
  if (::statx(AT_FDCWD, path.c_str(), AT_STATX_DONT_SYNC, 0, &st) == 0 &&
      (st.stx_mask & STATX_MNT_ID) != 0 && (st.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT) != 0) {
    return MountAt{st.stx_mnt_id, (st.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0};
  }
  const auto located = locate(path, LastComponent::Follow);
  return located ? std::optional(MountAt{located->mount.id, located->is_mount_point})
                 : std::nullopt;
}

}  // namespace layerfs
