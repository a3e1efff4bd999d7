// The entries of a tar, read by libarchive. Names are bytes, whatever the locale: libarchive
// keeps those that it cannot convert, and in the C locale that is all that are not ASCII.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tools/oci/byte_source.h"

struct archive;

namespace layerfs::oci {

struct TarItem {
  std::string path;  // as it is written there
  std::optional<std::string> hard_link;
  std::string symlink;
  mode_t mode = 0;  // with its type
  std::int64_t uid = 0;
  std::int64_t gid = 0;
  std::int64_t size = 0;
  struct timespec mtime = {};
  std::int64_t device_major = 0;
  std::int64_t device_minor = 0;
  std::vector<std::pair<std::string, std::string>> xattrs;
};

class TarReader {
 public:
  // `from` outlives it.
  explicit TarReader(ByteSource& from);
  ~TarReader();
  TarReader(const TarReader&) = delete;
  TarReader& operator=(const TarReader&) = delete;

  // nullopt at the end. What was not read of the data of the one before is skipped.
  Fallible<std::optional<TarItem>> next();
  struct Data {
    std::string_view bytes;
    std::uint64_t offset;  // what no piece covers is zeros
  };
  // Of the entry; valid until the next call. nullopt: there is no more.
  Fallible<std::optional<Data>> data();

 private:
  static ssize_t read(struct archive* archive, void* self, const void** data);
  Failure failure(const std::string& where) const;

  ByteSource& from_;
  std::unique_ptr<char[]> buffer_;
  std::optional<Failure> failure_;  // of `from_`
  struct archive* archive_;
  bool open_ = false;
  std::string path_;
};

}  // namespace layerfs::oci
