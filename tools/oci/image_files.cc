#include "tools/oci/image_files.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>

#include "layers/path_text.h"
#include "layers/sys/syscalls.h"
#include "tools/oci/document.h"

namespace layerfs::oci {
namespace {

constexpr std::size_t kReadBytes = 64 * 1024;
// Far above what any archive of an image has.
constexpr std::size_t kMostEntries = 100000;
constexpr int kMostLinks = 8;

Result<Extent> open_file(UniqueFd fd, std::string shown) {
  LFS_ASSIGN(const struct statx st, sys::stat_at({fd.get()}));
  if (!S_ISREG(st.stx_mode)) {
    return Errno(EINVAL);
  }
  return Extent{share(std::move(fd)), 0, st.stx_size, std::move(shown)};
}

class DirectoryFiles : public ImageFiles {
 public:
  DirectoryFiles(UniqueFd root, std::string path)
      : root_(std::move(root)), path_(std::move(path)) {}

  Fallible<std::optional<Extent>> find(const std::string& name) const override {
    const std::string shown = path_ + "/" + name;
    auto fd = sys::open_beneath(root_.get(), name, O_RDONLY | O_NONBLOCK);
    if (!fd && is_absence(fd.error())) {
      return std::optional<Extent>();
    }
    auto extent = fd ? open_file(std::move(*fd), shown) : Result<Extent>(fd.error());
    if (!extent) {
      return Failure{"cannot read '" + shown + "': " + describe(extent.error())};
    }
    return std::optional<Extent>(std::move(*extent));
  }
  const std::string& shown() const override { return path_; }

 private:
  UniqueFd root_;
  std::string path_;
};

struct ArchiveClose {
  void operator()(struct archive* archive) const { archive_read_free(archive); }
};

// "./a//b/../c" as "a/c"; nullopt: it leads out of the tar.
std::optional<std::string> clean_name(const std::string& dir, const std::string& name) {
  std::vector<std::string> parts;
  const std::string whole = dir.empty() ? name : dir + "/" + name;
  for (std::size_t at = 0; at <= whole.size();) {
    const std::size_t end = std::min(whole.find('/', at), whole.size());
    const std::string part = whole.substr(at, end - at);
    at = end + 1;
    if (part == "..") {
      if (parts.empty()) {
        return std::nullopt;
      }
      parts.pop_back();
    } else if (!part.empty() && part != ".") {
      parts.push_back(part);
    }
  }
  return join(parts);
}

class ArchiveFiles : public ImageFiles {
 public:
  ArchiveFiles(SharedFd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}

  Fallible<void> read_index() {
    const std::unique_ptr<struct archive, ArchiveClose> reader(archive_read_new());
    archive_read_support_format_tar(reader.get());
    if (archive_read_open_fd(reader.get(), fd_->get(), kReadBytes) != ARCHIVE_OK) {
      return unreadable(reader.get());
    }
    for (;;) {
      struct archive_entry* entry = nullptr;
      const int got = archive_read_next_header(reader.get(), &entry);
      if (got == ARCHIVE_EOF) {
        return {};
      }
      if (got < ARCHIVE_WARN) {
        return unreadable(reader.get());
      }
      if (places_.size() >= kMostEntries) {
        return Failure{"'" + path_ + "' has too many entries for the archive of an image"};
      }
      // Of what the format has read: the headers, so the data is next.
      add(entry, archive_filter_bytes(reader.get(), 0));
    }
  }

  Fallible<std::optional<Extent>> find(const std::string& name) const override {
    std::optional<std::string> now = clean_name("", name);
    for (int i = 0; now && i < kMostLinks; ++i) {
      const auto found = places_.find(*now);
      if (found == places_.end()) {
        return std::optional<Extent>();
      }
      if (!found->second.link) {
        return std::optional<Extent>(
            Extent{fd_, found->second.offset, found->second.size, path_ + ": " + name});
      }
      now = found->second.link;
    }
    return std::optional<Extent>();
  }
  const std::string& shown() const override { return path_; }

 private:
  struct Place {
    std::uint64_t offset = 0;
    std::uint64_t size = 0;
    std::optional<std::string> link;
  };

  void add(struct archive_entry* entry, std::int64_t offset) {
    const char* text = archive_entry_pathname(entry);
    const auto name = clean_name("", text == nullptr ? "" : text);
    if (!name) {
      return;
    }
    const char* hard_link = archive_entry_hardlink(entry);
    const char* symlink = archive_entry_symlink(entry);
    Place place;
    if (hard_link != nullptr) {
      place.link = clean_name("", hard_link);
    } else if (symlink != nullptr) {
      const std::size_t cut = name->rfind('/');
      place.link = clean_name(cut == std::string::npos ? "" : name->substr(0, cut), symlink);
    } else if (archive_entry_filetype(entry) != AE_IFREG) {
      return;
    } else {
      place.offset = static_cast<std::uint64_t>(offset);
      place.size = static_cast<std::uint64_t>(archive_entry_size(entry));
    }
    if (hard_link == nullptr && symlink == nullptr ? true : place.link.has_value()) {
      places_[*name] = std::move(place);
    }
  }

  Failure unreadable(struct archive* reader) const {
    const char* why = archive_error_string(reader);
    return {"'" + path_ + "' is no readable tar: " + (why == nullptr ? "unknown format" : why)};
  }

  SharedFd fd_;
  std::string path_;
  std::map<std::string, Place> places_;
};

}  // namespace

Fallible<std::string> ImageFiles::read_small(const std::string& name) const {
  LFS_ASSIGN(auto extent, find(name));
  if (!extent) {
    return Failure{"'" + shown() + "' has no " + name};
  }
  ExtentSource source(*extent);
  return read_all(source, kMostDocumentBytes, extent->shown);
}

Fallible<std::unique_ptr<ImageFiles>> open_directory_files(const std::string& path) {
  auto fd = sys::open_path(path, O_RDONLY | O_DIRECTORY);
  if (!fd) {
    return Failure{"image directory '" + path + "': " + describe(fd.error())};
  }
  return std::unique_ptr<ImageFiles>(std::make_unique<DirectoryFiles>(std::move(*fd), path));
}

Fallible<std::unique_ptr<ImageFiles>> open_archive_files(const std::string& path) {
  auto fd = sys::open_path(path, O_RDONLY | O_NONBLOCK);
  auto extent = fd ? open_file(std::move(*fd), path) : Result<Extent>(fd.error());
  if (!extent) {
    return Failure{"image archive '" + path + "': " + describe(extent.error())};
  }
  auto files = std::make_unique<ArchiveFiles>(extent->fd, path);
  LFS_TRY(files->read_index());
  return std::unique_ptr<ImageFiles>(std::move(files));
}

}  // namespace layerfs::oci
