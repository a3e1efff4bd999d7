#include "tools/run/text_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "layers/sys/syscalls.h"

namespace layerfs::run {
namespace {

constexpr std::size_t kMostBytes = 1024 * 1024;

Problem cannot(const char* what, const std::string& path, Errno error) {
  return failed(std::string("cannot ") + what + " '" + path + "': " + describe(error));
}

Outcome<void> write_whole(int fd, const std::string& path, const std::string& text) {
  const ssize_t count = ::write(fd, text.data(), text.size());
  if (count < 0) {
    return cannot("write to", path, Errno::last());
  }
  if (static_cast<std::size_t>(count) != text.size()) {
    return failed("cannot write to '" + path + "': only a part was taken");
  }
  return {};
}

}  // namespace

Outcome<std::string> read_text_fd(int fd, const std::string& shown) {
  std::string out;
  std::array<char, 16384> buffer{};
  for (;;) {
    const ssize_t count = ::read(fd, buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0) {
      return cannot("read", shown, Errno::last());
    }
    if (count == 0) {
      return out;
    }
    out.append(buffer.data(), static_cast<std::size_t>(count));
    if (out.size() > kMostBytes) {
      return failed("'" + shown + "' has more than 1 MiB");
    }
  }
}

Outcome<std::optional<std::string>> read_text_if_there(const std::string& path) {
  const auto fd = sys::open_path(path, O_RDONLY);
  if (!fd) {
    if (is_absence(fd.error())) {
      return std::optional<std::string>();
    }
    return cannot("read", path, fd.error());
  }
  LFS_ASSIGN(std::string text, read_text_fd(fd->get(), path));
  return std::optional(std::move(text));
}

Outcome<std::string> read_text(const std::string& path) {
  LFS_ASSIGN(auto text, read_text_if_there(path));
  if (!text) {
    return cannot("read", path, Errno(ENOENT));
  }
  return *std::move(text);
}

Outcome<void> write_text(const std::string& path, const std::string& text) {
  const auto fd = sys::open_path(path, O_WRONLY);
  if (!fd) {
    return cannot("write to", path, fd.error());
  }
  return write_whole(fd->get(), path, text);
}

Outcome<void> make_text(const std::string& path, const std::string& text, mode_t mode) {
  const auto fd = sys::open_path(path, O_WRONLY | O_CREAT | O_TRUNC, mode);
  if (!fd) {
    return cannot("make", path, fd.error());
  }
  return write_whole(fd->get(), path, text);
}

}  // namespace layerfs::run
