#include "tools/oci/convert_journal.h"

#include <fcntl.h>
#include <unistd.h>
#include <xxhash.h>

#include <cstring>
#include <optional>

#include "layers/sys/syscalls.h"
#include "tools/oci/output_file.h"
#include "whiteout/convert.h"

namespace layerfs::oci {
namespace {

constexpr std::size_t kMostPathBytes = std::size_t{1} << 20U;

// Of access and modification, as utimensat(2) takes them.
struct Times {
  struct timespec both[2];
};

struct Header {
  std::uint64_t hash;  // of all that follows
  Times root;
  Times dir;
  std::uint64_t path_size;
};

struct Record {
  Times root;
  Times dir;
  std::string path;
};

Result<Times> times_of(int dir) {
  LFS_ASSIGN(const struct statx st, sys::stat_at({dir}));
  return Times{{{st.stx_atime.tv_sec, static_cast<long>(st.stx_atime.tv_nsec)},
                {st.stx_mtime.tv_sec, static_cast<long>(st.stx_mtime.tv_nsec)}}};
}

std::uint64_t hash_of(std::string_view bytes) {
  bytes.remove_prefix(sizeof(std::uint64_t));
  return XXH3_64bits(bytes.data(), bytes.size());
}

std::string encode(const Record& record) {
  Header header;
  std::memset(&header, 0, sizeof header);  // padding too, for the hash
  header.root = record.root;
  header.dir = record.dir;
  header.path_size = record.path.size();
  std::string bytes(reinterpret_cast<const char*>(&header), sizeof header);
  bytes += record.path;
  const std::uint64_t hash = hash_of(bytes);
  std::memcpy(bytes.data(), &hash, sizeof hash);
  return bytes;
}

// nullopt: it is not whole, as after a loss of power.
Result<std::optional<Record>> read_record(int file) {
  std::string bytes(sizeof(Header), '\0');
  LFS_ASSIGN(const std::size_t have, sys::read_fully(file, bytes.data(), bytes.size(), 0));
  Header header;
  std::memcpy(&header, bytes.data(), sizeof header);
  if (have < bytes.size() || header.path_size > kMostPathBytes) {
    return std::optional<Record>();
  }
  bytes.resize(sizeof header + header.path_size);
  LFS_ASSIGN(const std::size_t all, sys::read_fully(file, bytes.data(), bytes.size(), 0));
  if (all < bytes.size() || hash_of(bytes) != header.hash) {
    return std::optional<Record>();
  }
  return std::optional<Record>({header.root, header.dir, bytes.substr(sizeof header)});
}

Status restore(int root, const Record& record) {
  const auto dir = sys::open_beneath(root, record.path, O_RDONLY | O_DIRECTORY);
  if (dir) {
    LFS_TRY(sys::utimens_at({dir->get()}, record.dir.both));
  } else if (!is_absence(dir.error())) {
    return dir.error();
  }
  return sys::utimens_at({root}, record.root.both);
}

Failure cannot(const std::string& shown, Errno error) {
  return {"'" + shown + "/" + kConvertJournal + "': " + describe(error)};
}

}  // namespace

ConvertJournal::ConvertJournal(ConvertJournal&& other) noexcept
    : root_(other.root_), shown_(std::move(other.shown_)), file_(std::move(other.file_)) {}

Fallible<ConvertJournal> ConvertJournal::begin(int root, const std::string& shown) {
  ConvertJournal journal(root, shown);
  const auto left = sys::open_at({root, kConvertJournal}, O_RDONLY | O_NONBLOCK);
  if (left) {
    const auto record = read_record(left->get());
    const auto restored = !record   ? Status(record.error())
                          : *record ? restore(root, **record)
                                    : Status();
    if (!restored) {
      return cannot(shown, restored.error());
    }
  } else if (left.error().value() != ENOENT) {
    return cannot(shown, left.error());
  }
  const auto times = times_of(root);
  if (!times) {
    return cannot(shown, times.error());
  }
  LFS_ASSIGN(OutputFile file, OutputFile::create(root, shown + "/" + kConvertJournal));
  LFS_TRY(file.write(encode({*times, *times, ""})));
  LFS_TRY(file.publish(kConvertJournal, OutputFile::Sync::No));
  auto opened = sys::open_at({root, kConvertJournal}, O_RDWR);
  if (!opened) {
    return cannot(shown, opened.error());
  }
  journal.file_ = std::move(*opened);
  const auto restored = sys::utimens_at({root}, times->both);
  return restored ? Fallible<ConvertJournal>(std::move(journal)) : cannot(shown, restored.error());
}

Fallible<void> ConvertJournal::note(int dir, const std::string& path) {
  const auto noted = read_record(file_.get());
  const auto times = times_of(dir);
  if (!noted || !times || !*noted) {
    return cannot(shown_, !noted ? noted.error() : !times ? times.error() : Errno(EIO));
  }
  const std::string bytes = encode({(*noted)->root, *times, path});
  // One call: a signal comes before or after it.
  const ssize_t written = ::pwrite(file_.get(), bytes.data(), bytes.size(), 0);
  if (written != static_cast<ssize_t>(bytes.size())) {
    return cannot(shown_, written < 0 ? Errno::last() : Errno(ENOSPC));
  }
  return {};
}

ConvertJournal::~ConvertJournal() {
  if (!file_) {
    return;
  }
  const auto record = read_record(file_.get());
  if (record && *record) {
    ignore(restore(root_, **record), "the times only");
    const auto removed = sys::unlink_at({root_, kConvertJournal}, sys::UnlinkKind::File);
    ignore(removed, "the next convert does it");
    ignore(sys::utimens_at({root_}, (*record)->root.both), "a time of the layer's root only");
  }
}

}  // namespace layerfs::oci
