#include "tools/oci/tar_reader.h"

#include <archive.h>
#include <archive_entry.h>

#include "tools/oci/tar_header.h"

namespace layerfs::oci {
namespace {

constexpr std::size_t kBufferBytes = 256 * 1024;

std::string text_or_empty(const char* text) { return text == nullptr ? "" : text; }

constexpr long kSecond = 1'000'000'000;

struct timespec time_as_read(struct archive_entry* entry) {
  return {archive_entry_mtime(entry), archive_entry_mtime_nsec(entry)};
}

// libarchive (3.6) reads "-1.5" as the second -1 and half a second after it.
bool adds_fractions_of_negative_times() {
  TarEntry entry;
  entry.path = "x";
  entry.mtime = {-2, kSecond / 2};
  const std::string tar = encode_tar_header(entry) + std::string(kTarTrailerBytes, '\0');
  struct archive* reader = archive_read_new();
  archive_read_support_format_tar(reader);
  struct archive_entry* read = nullptr;
  const bool adds = archive_read_open_memory(reader, tar.data(), tar.size()) == ARCHIVE_OK &&
                    archive_read_next_header(reader, &read) == ARCHIVE_OK &&
                    time_as_read(read).tv_sec == -1;
  archive_read_free(reader);
  return adds;
}

struct timespec time_of(struct archive_entry* entry) {
  static const bool adds = adds_fractions_of_negative_times();
  struct timespec time = time_as_read(entry);
  if (adds && time.tv_sec < 0 && time.tv_nsec > 0) {
    time = {time.tv_sec - 1, kSecond - time.tv_nsec};
  }
  return time;
}

TarItem item_of(struct archive_entry* entry) {
  TarItem item;
  item.path = text_or_empty(archive_entry_pathname(entry));
  if (const char* target = archive_entry_hardlink(entry); target != nullptr) {
    item.hard_link = target;
  }
  item.symlink = text_or_empty(archive_entry_symlink(entry));
  item.mode = archive_entry_mode(entry);
  item.uid = archive_entry_uid(entry);
  item.gid = archive_entry_gid(entry);
  item.size = archive_entry_size(entry);
  item.mtime = time_of(entry);
  item.device_major = static_cast<std::int64_t>(archive_entry_rdevmajor(entry));
  item.device_minor = static_cast<std::int64_t>(archive_entry_rdevminor(entry));
  archive_entry_xattr_reset(entry);
  const char* name = nullptr;
  const void* value = nullptr;
  std::size_t size = 0;
  while (archive_entry_xattr_next(entry, &name, &value, &size) == ARCHIVE_OK) {
    item.xattrs.emplace_back(text_or_empty(name),
                             std::string(static_cast<const char*>(value), size));
  }
  return item;
}

}  // namespace

TarReader::TarReader(ByteSource& from)
    : from_(from),
      buffer_(std::make_unique_for_overwrite<char[]>(kBufferBytes)),
      archive_(archive_read_new()) {
  archive_read_support_format_tar(archive_);
}

TarReader::~TarReader() { archive_read_free(archive_); }

ssize_t TarReader::read(struct archive* archive, void* self, const void** data) {
  auto& reader = *static_cast<TarReader*>(self);
  auto have = reader.from_.read(reader.buffer_.get(), kBufferBytes);
  if (!have) {
    reader.failure_ = have.error();
    archive_set_error(archive, EIO, "%s", reader.failure_->message.c_str());
    return -1;
  }
  *data = reader.buffer_.get();
  return static_cast<ssize_t>(*have);
}

Failure TarReader::failure(const std::string& where) const {
  if (failure_) {
    return *failure_;
  }
  return {where + text_or_empty(archive_error_string(archive_))};
}

Fallible<std::optional<TarItem>> TarReader::next() {
  const std::string where = path_.empty() ? "no readable tar: " : "damaged after '" + path_ + "': ";
  if (!open_ && archive_read_open(archive_, this, nullptr, &TarReader::read, nullptr) < 0) {
    return failure(where);
  }
  open_ = true;
  struct archive_entry* entry = nullptr;
  const int code = archive_read_next_header(archive_, &entry);
  if (code == ARCHIVE_EOF) {
    return std::optional<TarItem>();
  }
  // A warning: a name that is not in the locale's character set, whose bytes it has kept.
  if (code < ARCHIVE_WARN) {
    return failure(where);
  }
  TarItem item = item_of(entry);
  path_ = item.path;
  return std::optional<TarItem>(std::move(item));
}

Fallible<std::optional<TarReader::Data>> TarReader::data() {
  const void* bytes = nullptr;
  std::size_t size = 0;
  la_int64_t offset = 0;
  const int code = archive_read_data_block(archive_, &bytes, &size, &offset);
  if (code == ARCHIVE_EOF) {
    return std::optional<Data>();
  }
  if (code < ARCHIVE_WARN || offset < 0) {
    return failure("'" + path_ + "': ");
  }
  return std::optional<Data>(
      Data{{static_cast<const char*>(bytes), size}, static_cast<std::uint64_t>(offset)});
}

}  // namespace layerfs::oci
