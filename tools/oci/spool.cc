#include "tools/oci/spool.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "layers/sys/syscalls.h"

namespace layerfs::oci {
namespace {

constexpr std::size_t kBlockBytes = 1U << 20U;

bool is_zero(const char* data, std::size_t size) {
  return size == 0 || (data[0] == 0 && std::memcmp(data, data + 1, size - 1) == 0);
}

}  // namespace

Spool::Spool(UniqueFd fd, std::string dir)
    : fd_(std::move(fd)),
      dir_(std::move(dir)),
      block_(std::make_unique_for_overwrite<char[]>(kBlockBytes)) {}

Fallible<std::unique_ptr<Spool>> Spool::create() {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nothing here sets a variable
  const char* wanted = ::getenv("TMPDIR");
  std::string dir = wanted != nullptr && *wanted != '\0' ? wanted : "/var/tmp";
  auto fd = sys::open_path(dir, O_TMPFILE | O_RDWR, 0600);
  if (!fd && (is_unsupported(fd.error()) || fd.error().value() == EISDIR)) {
    std::string name = dir + "/layerfs-XXXXXX";
    UniqueFd made(::mkostemp(name.data(), O_CLOEXEC));
    if (made) {
      ::unlink(name.c_str());
      fd = std::move(made);
    }
  }
  if (!fd) {
    return Failure{"cannot put the layer aside in '" + dir + "': " + describe(fd.error()) +
                   "; name another directory in TMPDIR"};
  }
  return std::unique_ptr<Spool>(new Spool(std::move(*fd), std::move(dir)));
}

Failure Spool::failure(Errno error) const {
  return {"cannot put the layer aside in '" + dir_ + "': " + describe(error) +
          "; name a directory with room for it in TMPDIR"};
}

Fallible<BlockSink::Space> Spool::space() {
  return Space{block_.get() + used_, kBlockBytes - used_};
}

Fallible<void> Spool::filled(std::size_t size) {
  used_ += size;
  return used_ == kBlockBytes ? flush() : Fallible<void>();
}

Fallible<void> Spool::flush() {
  for (std::size_t done = 0; !is_zero(block_.get(), used_) && done < used_;) {
    const ssize_t n =
        ::pwrite(fd_.get(), block_.get() + done, used_ - done, static_cast<off_t>(size_ + done));
    if (n < 0 && errno != EINTR) {
      return failure(Errno::last());
    }
    done += n < 0 ? 0 : static_cast<std::size_t>(n);
  }
  size_ += used_;
  used_ = 0;
  return {};
}

Fallible<void> Spool::copy_to(BlockSink& to, const std::function<Fallible<void>()>& progress) {
  LFS_TRY(flush());
  if (const auto sized = sys::truncate_fd(fd_.get(), static_cast<off_t>(size_)); !sized) {
    return failure(sized.error());
  }
  for (std::uint64_t offset = 0; offset < size_;) {
    LFS_ASSIGN(const Space space, to.space());
    const auto want = static_cast<std::size_t>(std::min<std::uint64_t>(space.size, size_ - offset));
    const auto have = sys::read_fully(fd_.get(), space.data, want, static_cast<off_t>(offset));
    if (!have || *have < want) {
      return failure(have ? Errno(EIO) : have.error());
    }
    LFS_TRY(to.filled(want));
    LFS_TRY(progress());
    offset += want;
  }
  return {};
}

}  // namespace layerfs::oci
