#include "tools/oci/byte_source.h"

#include <algorithm>

#include "layers/sys/syscalls.h"

namespace layerfs::oci {

Fallible<std::size_t> ExtentSource::read(char* data, std::size_t size) {
  const auto want = static_cast<std::size_t>(std::min<std::uint64_t>(size, extent_.size - at_));
  if (want == 0) {
    return std::size_t{0};
  }
  const auto have =
      sys::read_fully(extent_.fd->get(), data, want, static_cast<off_t>(extent_.offset + at_));
  if (!have) {
    return Failure{"cannot read '" + extent_.shown + "': " + describe(have.error())};
  }
  if (*have < want) {
    return Failure{"'" + extent_.shown + "' is cut short; fetch it again"};
  }
  at_ += want;
  return want;
}

Fallible<std::size_t> VerifiedSource::read(char* data, std::size_t size) {
  if (ended_) {
    return std::size_t{0};
  }
  LFS_ASSIGN(const std::size_t have, from_->read(data, size));
  if (have > 0) {
    hash_.add({data, have});
    return have;
  }
  ended_ = true;
  if (const Digest found = hash_.finish(); found != expected_) {
    return Failure{"'" + shown_ + "' is damaged: its content has the digest " + found.text() +
                   ", not " + expected_.text() + "; fetch it again"};
  }
  return std::size_t{0};
}

Fallible<std::string> read_all(ByteSource& from, std::size_t most, const std::string& shown) {
  std::string text;
  std::size_t used = 0;
  for (;;) {
    constexpr std::size_t kPiece = 64 * 1024;
    text.resize(used + kPiece);
    LFS_ASSIGN(const std::size_t have, from.read(text.data() + used, kPiece));
    used += have;
    if (used > most) {
      return Failure{"'" + shown + "' is larger than any such document is (" +
                     std::to_string(most) + " bytes)"};
    }
    if (have == 0) {
      text.resize(used);
      return text;
    }
  }
}

}  // namespace layerfs::oci
