#include "tests/posix/objects.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <tuple>

#include "tests/testlib/files.h"

namespace layerfs::testing::posix {
namespace {

void must(long result, const std::string& path) {
  if (result < 0) {
    throw_errno(path);
  }
}

long bind_socket(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  must(fd, "socket");
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast): as the interface has it
  const long result = ::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address);
  ::close(fd);
  return result;
}

long create(const std::string& kind, const char* path) {
  if (kind == "file") {
    const int fd = ::open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    return fd < 0 ? fd : ::close(fd);
  }
  if (kind == "directory") return ::mkdir(path, 0700);
  if (kind == "fifo") return ::mkfifo(path, 0600);
  if (kind == "character") return ::mknod(path, S_IFCHR | 0600, makedev(1, 3));
  if (kind == "block") return ::mknod(path, S_IFBLK | 0600, makedev(7, 1));
  if (kind == "socket") return bind_socket(path);
  if (kind == "symlink") return ::symlink("nowhere", path);
  throw std::logic_error(kind + " is no kind of object");
}

const char* kind_of(mode_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG:
      return "file";
    case S_IFDIR:
      return "directory";
    case S_IFIFO:
      return "fifo";
    case S_IFCHR:
      return "character";
    case S_IFBLK:
      return "block";
    case S_IFSOCK:
      return "socket";
    case S_IFLNK:
      return "symlink";
    default:
      return "?";
  }
}

bool operator<(const timespec& a, const timespec& b) {
  return std::tie(a.tv_sec, a.tv_nsec) < std::tie(b.tv_sec, b.tv_nsec);
}

timespec clock_now(clockid_t clock) {
  timespec now = {};
  ::clock_gettime(clock, &now);
  return now;
}

}  // namespace

std::string said(long result) { return result < 0 ? ::strerrorname_np(errno) : "ok"; }

const std::vector<std::string>& kinds() {
  static const std::vector<std::string> all =
      stage().in_user_namespace
          ? std::vector<std::string>{"file", "directory", "fifo", "socket", "symlink"}
          : std::vector<std::string>{"file",  "directory", "fifo",   "character",
                                     "block", "socket",    "symlink"};
  return all;
}

std::vector<std::string> kinds_but(std::string_view left_out) {
  std::vector<std::string> some;
  for (const std::string& kind : kinds()) {
    if (kind != left_out) {
      some.push_back(kind);
    }
  }
  return some;
}

void make(const std::string& kind, const std::string& path, mode_t mode, const User& owner) {
  must(create(kind, path.c_str()), path);
  must(::lchown(path.c_str(), owner.uid, owner.gid), path);
  if (kind != "symlink") {
    must(::chmod(path.c_str(), mode), path);
  }
}

void make_file(const std::string& path, mode_t mode, const User& owner) {
  make("file", path, mode, owner);
}

void make_dir(const std::string& path, mode_t mode, const User& owner) {
  make("directory", path, mode, owner);
}

void make_all(mode_t mode, const User& owner) {
  for (const std::string& kind : kinds()) {
    make(kind, kind, mode, owner);
  }
}

void remove(const std::string& path) {
  if (::unlink(path.c_str()) < 0 && errno != ENOENT) {
    must(::rmdir(path.c_str()), path);
  }
}

std::string look(const std::string& path) {
  struct stat st = {};
  if (::lstat(path.c_str(), &st) < 0) {
    return said(-1);
  }
  char text[64];
  std::snprintf(text, sizeof text, "%s %04o %u:%u", kind_of(st.st_mode), st.st_mode & 07777U,
                st.st_uid, st.st_gid);
  return text;
}

mode_t mode_of(const std::string& path) {
  struct stat st = {};
  must(::stat(path.c_str(), &st), path);
  return st.st_mode & 07777U;
}

bool copied_up_together(const std::string& kind) {
  return kind == "file" || !stage().in_lower || !stage().in_user_namespace;
}

std::string try_open(const char* path, int flags, mode_t mode) {
  const int fd = ::open(path, flags | O_CLOEXEC, mode);
  std::string result = said(fd);
  if (fd >= 0) {
    ::close(fd);
  }
  return result;
}

Watch::Watch(const std::vector<std::string>& paths) {
  for (const std::string& path : paths) {
    was_[path] = stat_of(path);
  }
  // The times of files are those of this clock's last tick.
  const timespec now = clock_now(CLOCK_REALTIME);
  while (!(now < clock_now(CLOCK_REALTIME_COARSE))) {
    ::usleep(500);
  }
}

std::string Watch::later(const std::string& was, const std::string& path) const {
  const struct stat& before = was_.at(was);
  const struct stat now = stat_of(path);
  return std::string(before.st_mtim < now.st_mtim ? "m" : "") +
         (before.st_ctim < now.st_ctim ? "c" : "");
}

}  // namespace layerfs::testing::posix
