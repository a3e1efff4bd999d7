#include "tools/oci/output_file.h"

#include <fcntl.h>
#include <sys/random.h>
#include <unistd.h>

#include <array>
#include <cstdio>

#include "layers/sys/bulk.h"

namespace layerfs::oci {

std::string temporary_name() {
  std::uint64_t value = 0;
  if (::getrandom(&value, sizeof(value), 0) != static_cast<ssize_t>(sizeof(value))) {
    value = static_cast<std::uint64_t>(::getpid());
  }
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), ".layerfs-%016llx",
                static_cast<unsigned long long>(value));
  return text.data();
}

Fallible<OutputFile> OutputFile::create(int dir, std::string shown) {
  OutputFile file(dir, std::move(shown));
  auto opened = sys::open_at({dir, "."}, O_TMPFILE | O_RDWR, 0666);
  if (!opened && (is_unsupported(opened.error()) || opened.error().value() == EISDIR)) {
    file.temp_name_ = temporary_name();
    opened = sys::open_at({dir, file.temp_name_.c_str()}, O_RDWR | O_CREAT | O_EXCL, 0666);
    if (!opened) {
      file.temp_name_.clear();
    }
  }
  if (!opened) {
    return Failure{"cannot make '" + file.shown_ + "': " + describe(opened.error())};
  }
  file.fd_ = std::move(*opened);
  return file;
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : dir_(other.dir_),
      shown_(std::move(other.shown_)),
      fd_(std::move(other.fd_)),
      temp_name_(std::exchange(other.temp_name_, {})),
      size_(other.size_) {}

OutputFile::~OutputFile() {
  if (!temp_name_.empty()) {
    ignore(sys::unlink_at({dir_, temp_name_.c_str()}, sys::UnlinkKind::File),
           "there is nobody to tell");
  }
}

Failure OutputFile::failure(Errno error) const {
  return {"cannot write '" + shown_ + "': " + describe(error) +
          (error.value() == ENOSPC ? "; make room, or write somewhere else" : "")};
}

Fallible<void> OutputFile::write(std::string_view bytes) {
  LFS_TRY(write_at(bytes, size_));
  size_ += bytes.size();
  return {};
}

Fallible<void> OutputFile::write_at(std::string_view bytes, std::uint64_t offset) {
  const auto written = sys::write_fully(fd_.get(), bytes, offset);
  return written ? Fallible<void>() : failure(written.error());
}

Fallible<void> OutputFile::cut(std::uint64_t size) {
  if (const auto cut = sys::truncate_fd(fd_.get(), static_cast<off_t>(size)); !cut) {
    return failure(cut.error());
  }
  size_ = size;
  return {};
}

Fallible<void> OutputFile::publish(const std::string& name, Sync sync) {
  if (sync == Sync::Yes) {
    if (const auto synced = sys::fsync_fd(fd_.get()); !synced) {
      return failure(synced.error());
    }
  }
  if (temp_name_.empty()) {
    // A link cannot replace a name, so it goes by a temporary one.
    std::string temp = temporary_name();
    if (const auto linked = sys::link_at({fd_.get()}, {dir_, temp.c_str()}); !linked) {
      return failure(linked.error());
    }
    temp_name_ = std::move(temp);
  }
  if (const auto moved = sys::rename_at({dir_, temp_name_.c_str()}, {dir_, name.c_str()}); !moved) {
    return failure(moved.error());
  }
  temp_name_.clear();
  if (sync == Sync::Yes) {
    if (const auto synced = sys::fsync_fd(dir_); !synced) {
      return failure(synced.error());
    }
  }
  return {};
}

Fallible<void> DescriptorSink::write(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd_, bytes.data(), bytes.size());
    if (n < 0 && errno != EINTR) {
      return Failure{"cannot write to " + shown_ + ": " + describe(Errno::last())};
    }
    bytes.remove_prefix(n < 0 ? 0 : static_cast<std::size_t>(n));
  }
  return {};
}

Fallible<Target> open_target(const std::string& path) {
  const std::size_t cut = path.rfind('/');
  std::string dir = cut == std::string::npos ? "." : path.substr(0, cut == 0 ? 1 : cut);
  Target target{UniqueFd(), path.substr(cut == std::string::npos ? 0 : cut + 1)};
  if (target.name.empty() || target.name == "." || target.name == "..") {
    return Failure{"'" + path + "' is no file name"};
  }
  auto opened = sys::open_path(dir, O_RDONLY | O_DIRECTORY);
  if (!opened) {
    return Failure{"directory '" + dir + "': " + describe(opened.error()) + "; create it first"};
  }
  target.dir = std::move(*opened);
  return target;
}

}  // namespace layerfs::oci
