// The entries of a layer's tar as a directory tree: a layer by itself, with its whiteouts
// as marks. The tar is not trusted: nothing outside the directory is touched, no symlink is
// followed, and an entry that would need it is refused by its name.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "layers/override_stat.h"
#include "tools/oci/implied_directories.h"
#include "tools/oci/loss_list.h"
#include "tools/oci/tar_reader.h"
#include "whiteout/marks.h"

namespace layerfs::oci {

struct ApplyLimits {
  std::uint64_t bytes = 0;    // of file content, holes included
  std::uint64_t entries = 0;  // of all
};

struct DirectoryAttributes {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  mode_t mode = 0755;
  struct timespec mtime = {};
  std::vector<std::pair<std::string, std::string>> xattrs;
};

struct ApplyOptions {
  MarkWriter marks;
  // What a directory is in the layers below; nullopt: none of them has it. For directories
  // without an entry: merged, they would otherwise show owner and mode of this layer's.
  std::function<Fallible<std::optional<DirectoryAttributes>>(const std::string& path)>
      directory_below;
  // Owners, modes and special files go into override_stat.
  bool override_stat = false;
  ApplyLimits limits;
};

class LayerApplier {
 public:
  // `root`: an open, empty directory that nobody else changes.
  LayerApplier(int root, ApplyOptions options) : root_(root), options_(std::move(options)) {}

  // `item`, whose data `reader` gives.
  Fallible<void> add(const TarItem& item, TarReader& reader);
  // The root is this, if the tar does not say; before finish().
  void set_root(const DirectoryAttributes& attributes);
  // After the last: what directories get when nothing more is put into them.
  Fallible<void> finish();

  // There are directories that the tar has no entry for, but entries in.
  bool has_implied() const { return !implied_.empty(); }
  // What the filesystem did not take; once.
  LossList take_losses() { return std::move(losses_); }
  std::uint64_t bytes() const { return bytes_; }
  std::uint64_t entries() const { return entries_; }

 private:
  struct Attributes {
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    mode_t mode = 0;
    dev_t rdev = 0;
    struct timespec mtime = {};
    std::vector<std::pair<std::string, std::string>> xattrs;
  };
  // A directory that entries are being put into: it gets its attributes when the tar goes
  // elsewhere. So only those above the entry at hand take memory.
  struct OpenDirectory {
    std::string path;
    std::optional<Attributes> attributes;  // nullopt: it had them before, and keeps
    struct timespec times[2] = {};         // ... its times
    std::string default_acl;               // ... and what new entries must not inherit
  };
  struct Place {
    std::string path;  // "" is the root
    std::string dir;
    std::string name;
    bool is_foreign = false;
  };
  static Fallible<Place> place_of(const std::string& text, const std::string& shown);
  static Fallible<Attributes> attributes_of(const TarItem& item);
  static Attributes of_directory(const DirectoryAttributes& directory);

  Fallible<void> add_whiteout(const Place& place, const TarItem& item);
  Fallible<void> add_directory(const Place& place, Attributes attributes);
  Fallible<void> add_hard_link(const Place& place, const std::string& target);
  Fallible<void> add_file(const Place& place, const Attributes& attributes, const TarItem& item,
                          TarReader& reader);
  Fallible<void> add_special(const Place& place, const Attributes& attributes,
                             const std::string& symlink);
  Fallible<void> write_data(int fd, const TarItem& item, TarReader& reader);
  Fallible<void> set_attributes(sys::At at, const std::string& path, const Attributes& attributes);
  Fallible<void> set_xattrs(sys::At at, const std::string& path, const Attributes& attributes);

  // One entry more, or a directory without one, on account of `path`.
  Fallible<void> count(const std::string& path);
  // The directory that an entry goes into, made where it is missing.
  Fallible<int> open_directory(const std::string& path, const std::string& shown);
  Fallible<UniqueFd> make_directories(const std::string& path, const std::string& shown);
  // Gives their attributes to the open directories that are not above `path`, nor it.
  Fallible<void> leave_for(const std::string& path);
  Fallible<void> leave(const OpenDirectory& directory);
  // `fd`, which is at `path`, is about to get an entry.
  Fallible<void> enter(const std::string& path, int fd);
  // A whiteout of that name in this layer gives way to the object. true: there was one.
  Fallible<bool> replace_whiteout(const Place& place);
  Fallible<bool> replace_whiteout(int dir, const std::string& name, const std::string& path);
  void note_whiteout(const std::string& path);
  bool may_be_whiteout(const std::string& path) const;

  int root_;
  ApplyOptions options_;
  std::string open_path_;  // of open_fd_
  UniqueFd open_fd_;
  ImpliedDirectories implied_;
  // By hashes of the paths (a Bloom filter): a false yes costs a look at the disk. Empty:
  // there is no whiteout.
  std::vector<bool> whiteouts_;
  std::vector<OpenDirectory> open_;  // each below the one before
  std::optional<Attributes> root_attributes_;
  LossList losses_;
  std::uint64_t bytes_ = 0;
  std::uint64_t entries_ = 0;
};

}  // namespace layerfs::oci
