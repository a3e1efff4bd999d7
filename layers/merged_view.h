// The merged tree of a stack of layers as a mount would show it, read without a mount:
// for what compares, packs or squashes layers.
#pragma once

#include <compare>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "layers/directory_merge.h"
#include "layers/identity.h"
#include "layers/layer_stack.h"
#include "layers/link_index.h"
#include "layers/merged_names.h"

namespace layerfs {

// One merged directory. Opens its sources when they are first needed and keeps them until
// close(), so that a walk can let go of the directories above it.
class ViewDirectory {
 public:
  ViewDirectory() = default;
  ViewDirectory(const LayerStack& stack, std::vector<DirSource> sources)
      : stack_(&stack), sources_(std::move(sources)), fds_(sources_.size()) {}

  // Topmost first; never empty for a directory that exists.
  const std::vector<DirSource>& sources() const { return sources_; }
  // O_PATH; valid until close().
  Result<int> open(LayerIndex layer);
  void close();

 private:
  const LayerStack* stack_ = nullptr;
  std::vector<DirSource> sources_;
  std::vector<UniqueFd> fds_;
};

// Objects with the same key are one: names of one inode. Two layers may share inodes
// (stores that deduplicate by hard links) without their files being the same object.
struct LinkKey {
  LayerIndex layer;  // of an inode in the index: the layer whose index it is
  dev_t device;
  std::uint64_t ino;
  friend auto operator<=>(const LinkKey&, const LinkKey&) = default;
};

struct ViewEntry {
  std::string name;
  LayerIndex layer = 0;  // that provides it, or whose index does
  struct statx st = {};  // as stored; of the indexed inode where there is one
  Identity identity = {};
  std::vector<DirSource> sources;         // directories
  std::optional<std::string> index_name;  // what the index shows in place of a lower file
  // It has at most st_nlink names: none that the index gives it.
  bool links_are_all_names = true;

  bool is_directory() const { return S_ISDIR(identity.mode); }
  bool is_regular() const { return S_ISREG(identity.mode); }
  // Whether other names may show the same object.
  bool may_be_linked() const { return !is_directory() && (st.stx_nlink > 1 || index_name); }
  LinkKey link_key() const { return {layer, sys::device_of(st), st.stx_ino}; }
};

// Which layers of a stack are seen, and the index of their topmost.
struct ViewRange {
  LayerIndex first = 0;
  int index = -1;  // the link index directory of the upper; -1: none
};

class MergedView {
 public:
  // `stack` must outlive it.
  static Result<MergedView> open(const LayerStack& stack, ViewRange range);

  const LayerStack& stack() const { return *stack_; }
  LayerIndex first() const { return range_.first; }
  // Every layer is hidden, or there is none.
  bool is_empty() const { return root_.sources.empty(); }
  const ViewEntry& root() const { return root_; }
  ViewDirectory directory(const ViewEntry& entry) const { return {*stack_, entry.sources}; }

  // The names of those sources whose layers are in [from, to), at most `most` entries.
  Result<std::unique_ptr<MergedNames>, Failure> names(ViewDirectory& dir, LayerIndex from,
                                                      LayerIndex to, SortSpace& space,
                                                      std::string_view path,
                                                      std::uint64_t most = UINT64_MAX) const;
  // The same in memory, to look names up; upper_whiteouts holds the
  // whiteouts of all of them.
  Result<MergedDirectory> list(ViewDirectory& dir, LayerIndex from, LayerIndex to) const;
  Result<MergedDirectory> list(ViewDirectory& dir) const {
    return list(dir, range_.first, stack_->size());
  }
  // What a listing showed as `name` of `layer`. `exists_below`: a layer further down shows
  // the name too.
  Result<ViewEntry> entry(ViewDirectory& dir, std::string_view name, LayerIndex layer,
                          bool exists_below) const;
  // Without a listing; nullopt: no such name.
  Result<std::optional<ViewEntry>> find(ViewDirectory& dir, std::string_view name) const;

  // Of an object found in `dir`. Valid while `dir` is open.
  Result<sys::At> at(ViewDirectory& dir, const ViewEntry& entry) const;

  // Inodes of the index, for those who must find all their names; in order.
  const std::vector<IndexKey>& indexed() const { return indexed_; }
  int index() const { return range_.index; }

 private:
  Result<std::vector<MergeInput>> inputs(ViewDirectory& dir, LayerIndex from, LayerIndex to) const;

  const LayerStack* stack_ = nullptr;
  ViewRange range_;
  ViewEntry root_;
  std::vector<IndexKey> indexed_;
};

// One object of a view with what is read of it, each part read once, when first asked for.
class ViewObject {
 public:
  // `dir` must stay open, and both outlive this.
  ViewObject(const MergedView& view, ViewDirectory& dir, ViewEntry entry)
      : view_(&view), dir_(&dir), entry_(std::move(entry)) {}

  const ViewEntry& entry() const { return entry_; }
  // Those that is_image_xattr() lets pass, by name, in bytewise order.
  using Xattrs = std::vector<std::pair<std::string, std::string>>;
  Result<const Xattrs*> xattrs();
  // Regular files: readable, wherever the layers have the data.
  Result<int> data();
  // Where the data is: a layer and a path in it, or in the index (kInIndex). Two objects
  // with the same place have the same content.
  static constexpr LayerIndex kInIndex = 0xffff;
  Result<std::pair<LayerIndex, std::string>> data_place();
  // Its attributes and its data are of one inode.
  bool has_own_data() const { return !data_below_; }
  Result<std::string> link_target();

 private:
  Status read_names();
  Status find_data();

  const MergedView* view_;
  ViewDirectory* dir_;
  ViewEntry entry_;
  UniqueFd own_;   // regular files
  UniqueFd data_;  // data that is below
  bool names_read_ = false;
  bool data_found_ = false;
  std::optional<std::string> redirect_;
  bool data_below_ = false;
  std::pair<LayerIndex, std::string> place_;
  std::vector<std::string> names_;
  std::optional<Xattrs> xattrs_;
};

// Attributes that belong to the content of an image: what a user sets. Not those that
// encode marks, nor those that belong to the machine (labels, integrity hashes, NFS ACLs).
bool is_image_xattr(std::string_view name);
// A file capability without the user namespace's root id that the kernel adds to it
// (linux/capability.h: revision 3 to 2); any other value as it is.
std::string without_capability_rootid(std::string_view name, std::string value);

}  // namespace layerfs
