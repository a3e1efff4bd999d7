// Changes as the tar of a layer (OCI image spec, layer.md).
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "layers/change_walk.h"
#include "layers/link_tally.h"
#include "tools/oci/byte_sink.h"
#include "tools/oci/loss_list.h"
#include "tools/oci/tar_header.h"

namespace layerfs::oci {

// How times are written.
struct LayerTimes {
  std::optional<std::int64_t> latest;  // later ones become this (SOURCE_DATE_EPOCH)
  std::optional<std::int64_t> exact;   // all become this
  bool whole_seconds = false;          // the fraction is cut off
};

struct LayerWriterOptions {
  LayerTimes times;
  // What the kernel shows for ids that this user namespace does not map; nullopt: all are.
  std::optional<std::uint32_t> unmapped_uid;
  std::optional<std::uint32_t> unmapped_gid;
  // Paths of volumes and the like: they come out as empty directories, what is in them is
  // left out. In bytewise order, without a leading '/'.
  std::vector<std::string> without_content;
  std::function<Fallible<void>(std::uint64_t bytes)> progress;  // of data read
};

class LayerWriter {
 public:
  // What the walk must be asked for so that add() can make a layer of it.
  static ChangeOptions walk_options(bool explicit_whiteouts);

  LayerWriter(BlockSink& to, LayerWriterOptions options) : to_(to), options_(std::move(options)) {}

  // In the order of the walk. A file that changes while it is read is a failure, and so is
  // one that cannot be read.
  Fallible<void> add(const Change& change);
  // After the last.
  Fallible<void> finish();

  // Nothing but the trailer was written: there is no need of a layer.
  bool is_empty() const { return entries_ == 0; }
  std::uint64_t entries() const { return entries_; }
  // Of the times written, in seconds.
  std::optional<std::int64_t> newest() const { return newest_; }
  // What the layer cannot carry; once.
  LossList take_losses() { return std::move(losses_); }

 private:
  Fallible<void> add_whiteout(const std::string& path);
  Fallible<void> add_object(const std::string& path, ViewObject& object);
  Fallible<std::optional<std::string>> first_name(const ViewEntry& source, const std::string& path);
  Fallible<void> add_xattrs(const std::string& path, ViewObject& object, TarEntry& entry);
  Fallible<void> add_data(const std::string& path, ViewObject& object);
  Fallible<void> write_header(const TarEntry& entry);
  struct timespec stored_time(const struct statx_timestamp& time) const;
  bool is_left_out(const std::string& path) const;

  BlockSink& to_;
  LayerWriterOptions options_;
  std::uint64_t entries_ = 0;
  std::optional<std::int64_t> newest_;
  // Of objects with several names, those that may have further ones.
  struct Linked {
    std::uint64_t at;  // of its first name, in first_names_
    std::uint32_t size;
    std::uint32_t names;  // so far
  };
  SpillTable<Linked> linked_;
  SpillLog first_names_;
  LossList losses_;
};

}  // namespace layerfs::oci
