#include "layers/sys/temporary_file.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "layers/sys/bulk.h"

namespace layerfs::sys {

Result<TemporaryFile, Failure> TemporaryFile::create() {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nothing here sets a variable
  const char* wanted = ::getenv("TMPDIR");
  std::string dir = wanted != nullptr && *wanted != '\0' ? wanted : "/var/tmp";
  auto fd = open_path(dir, O_TMPFILE | O_RDWR, 0600);
  if (!fd && (is_unsupported(fd.error()) || fd.error().value() == EISDIR)) {
    std::string name = dir + "/layerfs-XXXXXX";
    UniqueFd made(::mkostemp(name.data(), O_CLOEXEC));
    if (made) {
      ::unlink(name.c_str());
      fd = std::move(made);
    }
  }
  if (!fd) {
    return Failure{"cannot make a temporary file in '" + dir + "': " + describe(fd.error()) +
                   "; name another directory in TMPDIR"};
  }
  return TemporaryFile(std::move(*fd), std::move(dir));
}

Failure TemporaryFile::failure(Errno error) const {
  return {"temporary file in '" + dir_ + "': " + describe(error) +
          "; name a directory with room for it in TMPDIR"};
}

Result<void, Failure> TemporaryFile::write(std::string_view bytes, std::uint64_t offset) {
  const auto written = write_fully(fd_.get(), bytes, offset);
  return written ? Result<void, Failure>() : failure(written.error());
}

Result<void, Failure> TemporaryFile::read(char* data, std::size_t size,
                                          std::uint64_t offset) const {
  const auto have = read_fully(fd_.get(), data, size, static_cast<off_t>(offset));
  if (!have || *have < size) {
    return failure(have ? Errno(EIO) : have.error());
  }
  return {};
}

Result<void, Failure> TemporaryFile::resize(std::uint64_t size) {
  const auto sized = truncate_fd(fd_.get(), static_cast<off_t>(size));
  return sized ? Result<void, Failure>() : failure(sized.error());
}

}  // namespace layerfs::sys
