// The operations of the union on nodes: Result out, no FUSE header in. Everything that
// decides what a name means lives here; how it is stored is layers' and whiteout's.
#pragma once

#include <sys/stat.h>
#include <sys/statvfs.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "fs/data_pins.h"
#include "fs/descriptor_cache.h"
#include "fs/ino_map.h"
#include "fs/listing_cache.h"
#include "fs/node_table.h"
#include "layers/id_map.h"
#include "layers/layer_stack.h"
#include "layers/writable_layer.h"

namespace layerfs {

// Who asks, with ids as shown.
struct Caller {
  uid_t uid;
  gid_t gid;
  mode_t umask;
};

struct NodeEntry {
  NodeId id;
  struct stat attr;
};

// What a request does not tell of its caller; asked only where set-id bits hang on it.
struct CallerRights {
  uid_t uid;
  // Whether the caller keeps a set-group-id bit of a file of this group, as shown.
  std::function<bool(gid_t)> in_group_or_capable;
  std::function<bool()> has_cap_fsetid;
};

// What becomes of the set-id bits of an object that is no directory.
enum class SetIds {
  Keep,
  Drop,
  // By a process that writes: dropped unless it has CAP_FSETID.
  DropByWrite,
  // By a chown(2) of neither owner nor group: dropped, and where there are any, as a
  // change of the mode is, permitted only to the owner.
  DropByOwner,
};

struct AttributeChange {
  std::optional<mode_t> mode;
  std::optional<uid_t> uid;
  std::optional<gid_t> gid;
  std::optional<off_t> size;
  struct timespec atime = {0, UTIME_OMIT};
  struct timespec mtime = {0, UTIME_OMIT};
  SetIds set_ids = SetIds::Keep;
  CallerRights caller;  // unless Keep
  // Only the kernel's own ctime comes with the mtime: with the writeback cache it writes out
  // the times it keeps at every unlink, link and rename (fs/fuse/dir.c: fuse_update_ctime).
  bool kept_times = false;
};

struct FileSystemOptions {
  bool redirect = true;
  bool metacopy = true;
  bool index = true;
  bool static_nlink = false;
  IdMap uids;
  IdMap gids;
  std::size_t descriptor_limit = 256;
  std::size_t listing_entry_limit = 1U << 20U;
};

struct CopyUpCounters {
  std::atomic<std::uint64_t> files{0};
  std::atomic<std::uint64_t> metadata_only{0};
  std::atomic<std::uint64_t> bytes{0};
};

class FileSystem {
 public:
  // `upper` and `init` as the stack has them.
  static Result<std::unique_ptr<FileSystem>> create(LayerStack stack,
                                                    std::unique_ptr<WritableLayer> upper,
                                                    std::unique_ptr<WritableLayer> init,
                                                    FileSystemOptions options);
  ~FileSystem();

  // Each entry returned counts one lookup of the kernel; take_back() if the reply was
  // not accepted.
  Result<NodeEntry> lookup(NodeId parent, std::string_view name);
  void forget(NodeId node, std::uint64_t count);
  void take_back(const NodeEntry& entry) { forget(entry.id, 1); }

  Result<struct stat> get_attributes(NodeId node);
  // With the birth time, which the kernel asks for separately.
  Result<struct statx> get_extended_attributes(NodeId node);
  Result<struct stat> set_attributes(NodeId node, const AttributeChange& change);
  Result<std::string> read_link(NodeId node);
  Result<struct statvfs> statistics();

  struct Creation {
    NodeEntry entry;
    // Regular files: open for reading and writing.
    SharedFd fd;
  };
  // Any type by S_IFMT of `mode`; directories and symlinks too.
  Result<Creation> create_node(NodeId parent, std::string_view name, const Caller& caller,
                               mode_t mode, dev_t rdev, std::string_view symlink_target);
  Result<Creation> create_nameless(NodeId parent, const Caller& caller, mode_t mode);
  Status remove(NodeId parent, std::string_view name, sys::UnlinkKind kind);
  // What the kernel has cached and a rename made wrong.
  struct RenameEffects {
    std::vector<NodeId> reparented;  // directories, whose listings have the old ".."
    NodeId renumbered = 0;           // an object with another st_ino, 0 if none
  };
  // `flags` as renameat2's.
  Result<RenameEffects> rename(NodeId parent, std::string_view name, NodeId new_parent,
                               std::string_view new_name, unsigned flags);
  Result<NodeEntry> link(NodeId node, NodeId new_parent, std::string_view new_name);

  // The file's data. Writing copies a lower file up; reading does not.
  enum class Access { Read, Write };
  Result<SharedFd> data(NodeId node, Access access);
  // pwrite(2) of all of `bytes`; fewer only if a part has been written before an error.
  // Pages: the kernel writes out what was changed in its page cache, through a mapping at
  // least. Cache: as Pages, with the writeback cache: it has the time of the writing and tells
  // it by set_attributes(), before or after; the time of writing out is nobody's.
  enum class WriteFrom { Caller, Pages, Cache };
  Result<std::size_t> write(NodeId node, std::string_view bytes, off_t offset, WriteFrom from);
  // Whether data(node, Read) is in a layer that takes writes (so, in the same file that
  // writing uses).
  bool is_writable_data(NodeId node);
  // To be pinned before data() is asked for what the kernel will use by itself.
  DataPins& pins() { return pins_; }
  // A descriptor of a file or directory for the inode flag ioctls; Write copies up.
  Result<UniqueFd> open_for_flags(NodeId node, Access access);

  Result<std::string> get_xattr(NodeId node, const std::string& name);
  Result<std::vector<std::string>> list_xattrs(NodeId node);
  // An access ACL may change the mode, and drops a set-group-id bit that the caller may
  // not keep.
  Status set_xattr(NodeId node, const std::string& name, std::string_view value, int flags,
                   const CallerRights& caller);
  Status remove_xattr(NodeId node, const std::string& name);

  struct ListedEntry {
    std::string_view name;
    std::uint64_t offset;  // where a reader goes on after it
    NodeId id;             // 0: not looked up
    struct stat attr;
  };
  enum class Listing { Names, WithAttributes };
  // `fits` says whether a name of that many bytes still has room; `add` takes one entry,
  // which counts a lookup if its id is not 0. `offset` is 0 or an entry's.
  enum class ReadTo {
    Here,
    End,
    // The end, for a reader that has seen the directory as it was before a change.
    OutdatedEnd,
  };
  Result<ReadTo> read_directory(NodeId node, std::uint64_t offset, Listing kind,
                                const std::function<bool(std::size_t)>& fits,
                                const std::function<void(const ListedEntry&)>& add);

  Status sync(NodeId node, bool data_only);
  // A sync of the data that this does not hear of would leave out that it is a copy.
  bool is_unsettled_copy(NodeId node);
  Status sync_all();
  // Ends the mount: everything written, work directories empty.
  Status finish();

  struct Provider {
    std::string layer;
    std::string path;
    std::string kind;
  };
  // Which layers have the object at `path` (components below the mount), topmost first;
  // of a deleted name, its whiteout and what that hides.
  Result<std::vector<Provider>> providers(const std::vector<std::string>& path);

  // frozen_nodes.cc
  bool is_regular(NodeId node);
  // Those that the kernel may know.
  std::vector<NodeId> regular_nodes();
  // 0: there is none that the kernel knows.
  NodeId known_child(NodeId parent, std::string_view name);
  // A path of the object below the mount; nullopt: it has none, or is in no upper.
  std::optional<std::string> path_in_upper(NodeId node);

  const LayerStack& stack() const { return stack_; }
  WritableLayer* upper() { return upper_.get(); }
  bool is_read_only() const { return upper_ == nullptr; }
  const CopyUpCounters& copied_up() const { return copied_up_; }
  NodeTable::Usage node_usage() const { return table_.usage(); }
  void on_node_growth(std::function<bool()> listener) { table_.on_growth(std::move(listener)); }
  // Those that the kernel refers to, but the root.
  std::vector<NodeId> known_nodes() const;
  ListingCache::Usage listing_usage() const { return listings_.usage(); }
  const DescriptorCache& descriptors() const { return descriptors_; }

 private:
  using SharedTree = std::shared_lock<std::shared_mutex>;
  // Passed as proof that the caller holds the tree lock exclusively.
  using ExclusiveTree = std::unique_lock<std::shared_mutex>;

  // Where an object is now; valid while the tree lock is held.
  struct Located {
    SharedFd dir;
    const char* name;
    sys::At at() const { return {dir->get(), name}; }
  };
  struct Observed {
    struct statx st;
    Identity identity;            // of the layer, override_stat applied
    std::uint64_t shown_ino = 0;  // where a node was made of it
  };

  FileSystem(LayerStack stack, std::unique_ptr<WritableLayer> upper,
             std::unique_ptr<WritableLayer> init, FileSystemOptions options);
  Status open_root();

  // file_system.cc
  Result<Node*> node_of(NodeId id) const;
  WritableLayer* writable(LayerIndex layer);
  OverrideForm form_of(LayerIndex layer);
  Result<SharedFd> directory_fd(Node& dir, LayerIndex layer);
  Result<Located> locate(Node& node);
  Result<Observed> observe(sys::At at, LayerIndex layer);
  Result<Observed> observe(Node& node);
  Result<struct stat> attributes_of(Node& node, const Observed& observed);
  Result<struct stat> attributes_of(Node& node);
  Result<SharedListing> listing_of(Node& dir);
  bool is_merged(const Node& dir) const;
  bool is_removed(const Node& dir) const;

  // providers.cc
  std::string host_path(LayerIndex layer, const std::string& below) const;
  std::vector<Provider> directory_providers(const Node& node) const;
  Result<std::vector<Provider>> file_providers(const Node& node) const;
  Result<std::vector<Provider>> deleted_providers(Node& dir, const std::string& name);

  // lookup.cc. Without `exclusive` the answer may be "needs the lock exclusively":
  // nullopt or nullptr.
  Result<std::optional<NodeEntry>> lookup_locked(NodeId parent, std::string_view name,
                                                 const ExclusiveTree* exclusive);
  // The node of an entry, with one lookup counted.
  Result<Node*> child_of(Node& parent, const DirectoryListing::Entry& entry,
                         const MergedDirectory& listing, std::optional<Observed>& observed,
                         const ExclusiveTree* exclusive);
  Status restore_size(Node& parent, const std::string& name, sys::At at, Node& fresh,
                      const ExclusiveTree& lock);
  Result<Node*> instantiate(Node& parent, const DirectoryListing::Entry& entry,
                            const MergedDirectory& listing, Observed& observed,
                            const ExclusiveTree* exclusive);
  Status build_directory(Node& node, Node& parent, const DirectoryListing::Entry& entry,
                         const MergedDirectory& listing, sys::At at, const struct statx& st);
  Result<Node*> find_hard_link(Node& parent, std::string_view name, const Observed& observed,
                               Node& fresh, const ExclusiveTree* exclusive);

  // copy_up.cc
  enum class Need { Attributes, Data };
  class Claim;
  // Brings the object into its writable layer. Takes and releases the tree lock; the
  // data is copied under no lock but the claim on this one node.
  // `keep_bytes`: content beyond it is about to be truncated.
  Status copy_up(NodeId id, Need need, std::uint64_t keep_bytes = ~std::uint64_t{0});
  Result<bool> needs_copy_up(Node& node, Need need);
  Status copy_up_directory(Node& dir, const ExclusiveTree& lock);
  Status copy_up_file(Node& node, CopyContent content, const ExclusiveTree& lock);
  Status copy_up_data(NodeId id, std::uint64_t keep_bytes);
  Status fill_metacopy(NodeId id, std::uint64_t keep_bytes);
  class OwnLinks;
  Result<OwnLinks> link_known_names(const Node& node, const Staged& staged,
                                    const ExclusiveTree& lock);
  Status publish_copy(Node& node, Staged& staged, const struct statx& lower,
                      const ExclusiveTree& lock);
  Status mark_impure(Node& dir, const ExclusiveTree& lock);
  Result<CopySource> copy_source(const Located& located, Node& node);
  Result<Content> content_of(Node& node);
  // What the object must have above before it can have another name.
  static Need need_to_move(const Node& node);
  // So that a metacopy file finds its data under another name.
  Status redirect_metacopy(Node& node, const ExclusiveTree& lock);
  Result<UniqueFd> open_data_below(Node& node, const ExclusiveTree& lock);
  Result<UniqueFd> open_content(Node& node, int flags, const ExclusiveTree* lock);

  // namespace.cc
  static Status check_new_name(std::string_view name);
  struct NewName {
    WritableLayer* layer = nullptr;
    SharedFd dir;
    bool whiteout = false;  // the layer has a whiteout of the name
  };
  Result<NewName> prepare_name(Node& parent, std::string_view name, const MergedDirectory& listing,
                               const ExclusiveTree& lock);
  WritableLayer* layer_for_name(Node& parent, std::string_view name,
                                const MergedDirectory& listing);
  Result<NewObject> describe_new(Node& parent, const Caller& caller, mode_t mode, dev_t rdev,
                                 std::string_view symlink_target);
  Result<UniqueFd> create_directly(const NewName& where, const std::string& name,
                                   const Caller& caller, mode_t mode, dev_t rdev,
                                   std::string_view symlink_target);
  bool may_create_directly(const NewName& where, mode_t mode) const;
  // Stored in `where`: a directory that is shown from another layer gets the new mtime too.
  void names_changed(Node& dir, const NewName& where);
  void show_name(Node& parent, MergedDirectory& listing, std::string_view name, unsigned char type,
                 const NewName& where);
  Status remove_entry(Node& parent, const DirectoryListing::Entry& entry, Node& child,
                      MergedDirectory& listing, const ExclusiveTree& lock);
  // The object leaves (parent, name) for work/, a whiteout taking its place if `hide`.
  Status park(WritableLayer& layer, Node& node, int dir, const std::string& name, bool hide);
  Status leave_whiteout(WritableLayer& layer, int from, const std::string& name, sys::At to);
  // Removes what was just made there; a whiteout that it replaced is there again. Whether it
  // could be done.
  bool take_name_back(const NewName& where, const std::string& name);
  void note_whiteout(MergedDirectory& listing, LayerIndex layer, std::string_view name);
  void detach_lower(Node& node);

  // rename.cc
  struct RenameSide;
  Result<RenameSide> rename_side(NodeId parent, std::string_view name, const ExclusiveTree& lock);
  // What must happen before the rename can, under no lock; both 0: it is done.
  struct RenameObstacle {
    NodeId copy_up = 0;  // with its lookup counted
    Need need = Need::Attributes;
    NodeId pinned = 0;
  };
  Result<RenameObstacle> rename_locked(RenameSide& from, RenameSide& to, unsigned flags,
                                       const ExclusiveTree& lock);
  Status check_replaceable(const RenameSide& from, const RenameSide& to);
  Result<RenameObstacle> copy_up_before(const RenameSide& side, bool moves);
  static RenameEffects effects_of(const RenameSide& from, const RenameSide& to, unsigned flags,
                                  std::uint64_t old_ino);
  Status prepare_moved(RenameSide& from, const RenameSide& to, const ExclusiveTree& lock);
  Result<std::string> clear_target_directory(RenameSide& to, const ExclusiveTree& lock);
  void put_target_directory_back(RenameSide& to, std::string parked);
  // A second link of a stored object, in work/.
  static Result<TempEntry> link_into_work(WritableLayer& layer, sys::At at);
  Status move_stored(RenameSide& from, RenameSide& to, bool leaves_whiteout);
  // Whether it could be done.
  static bool move_stored_back(const RenameSide& from, const RenameSide& to, bool leaves_whiteout);
  // Whether it could be done.
  bool take_copy_back(RenameSide& to, TempEntry& second);
  Status move_name(RenameSide& from, RenameSide& to, const ExclusiveTree& lock);
  Status exchange_names(RenameSide& from, RenameSide& to, const ExclusiveTree& lock);
  Status move_between_layers(RenameSide& from, RenameSide& to, const ExclusiveTree& lock);
  void move_node(RenameSide& from, RenameSide& to);
  // The object at `to` has lost that name, which a layer that takes changes had; if it was
  // the last, `parked` in work/ is it.
  void target_gone(RenameSide& to, std::string parked);
  // As above, but only a lower had the name. Of a link in the index the name is no longer
  // counted.
  void lower_target_gone(RenameSide& to);
  static bool replaces_counted_name(const RenameSide& to);

  // attributes.cc
  // With the set-id bits gone that `change` drops.
  Result<mode_t> mode_after(const Node& node, const Identity& old,
                            const AttributeChange& change) const;
  Status set_owner(WritableLayer& layer, sys::At at, const Identity& old,
                   const AttributeChange& change) const;
  Status set_owner_and_mode(Node& node, WritableLayer& layer, sys::At at,
                            const AttributeChange& change);

  // links.cc: hard links through copy-up
  std::string index_name(const struct statx& lower) const;
  bool is_indexable(const struct statx& lower) const;
  void apply_origin(Node& node, const FileMarks& marks);
  void apply_file_marks(Node& fresh, const FileMarks& marks, const struct statx& st);
  Status find_in_index(Node& fresh, Observed& observed);
  Status publish_to_index(Node& node, Staged& staged, const struct statx& lower);
  // Gives the node's own name to its inode in the index.
  Status link_from_index(Node& node, const ExclusiveTree& lock);
  Status change_link_delta(Node& node, int by);
  // After a name of an indexed file is gone: the index entry goes with the last.
  Status settle_index(Node& node);

  LayerStack stack_;
  std::unique_ptr<WritableLayer> upper_;
  std::unique_ptr<WritableLayer> init_;
  const FileSystemOptions options_;
  SharedFd work_fd_;
  SharedFd init_work_fd_;
  SharedFd index_fd_;

  // Order: in_flight_ claims, then tree_, then the leaf locks inside the members below.
  mutable std::shared_mutex tree_;
  InoMap inos_;
  NodeTable table_;
  DescriptorCache descriptors_;
  ListingCache listings_;
  DataPins pins_;
  CopyUpCounters copied_up_;

  // A leaf: keeps writing out from putting an mtime back that was set meanwhile. Shared
  // by nodes whose ids are equal modulo their number.
  std::array<std::mutex, 64> mtime_mutexes_;

  std::mutex in_flight_mutex_;
  std::condition_variable in_flight_done_;
  std::unordered_set<NodeId> in_flight_;
};

}  // namespace layerfs
