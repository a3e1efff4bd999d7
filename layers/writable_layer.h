// A layer that takes changes: the upper, or the init layer. Every change is built in its
// work directory and published by one rename, so a name is old or new at every instant.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "layers/acl.h"
#include "layers/identity.h"
#include "layers/layer_stack.h"
#include "layers/workdir.h"
#include "whiteout/marks.h"

namespace layerfs {

// An object to create.
struct NewObject {
  Identity identity;
  std::string symlink_target;
  std::optional<std::string> access_acl;
  std::optional<std::string> default_acl;
};

// How much of a lower object is copied.
enum class CopyContent {
  All,
  // Attributes only: the data stays below until it is written (overlay.metacopy).
  None,
};

struct CopySource {
  sys::At at;        // the object itself, for attributes
  struct statx st;   // of it, as stored
  int data_fd = -1;  // readable, regular files with content to copy
  CopyContent content = CopyContent::All;
  std::uint64_t size;                // bytes of content to keep; less than st's for a truncation
  std::optional<Identity> identity;  // where override_stat or the like says otherwise
  std::optional<Origin> origin;
  OverrideForm form = OverrideForm::None;  // of its layer
};

// An object built in work/, ready to be published.
struct Staged {
  TempEntry entry;
  UniqueFd fd;  // regular files: open for reading and writing
  std::uint64_t bytes_copied = 0;
};

class WritableLayer {
 public:
  WritableLayer(LayerIndex index, Workdir workdir, MarkWriter marks, OverrideForm form,
                Durability durability);

  LayerIndex index() const { return index_; }
  Workdir& workdir() { return workdir_; }
  const MarkWriter& marks() const { return marks_; }
  // Ownership and special files are kept in attributes, because the process may not set them.
  bool overrides() const { return form_ != OverrideForm::None; }
  OverrideForm override_form() const { return form_; }
  bool is_volatile() const { return durability_ != Durability::Synced; }
  // Whether a power cut can leave a change and not one before it. btrfs has a log of single
  // objects, in which a rename of what was synced goes without the whiteout that it leaves, and
  // what is replaced without what replaces it, unless that or its old directory was synced too
  // (Linux fs/btrfs/inode.c: btrfs_rename, tree-log.c: btrfs_log_new_name). Elsewhere a journal
  // keeps the order.
  bool may_lose_order() const { return may_lose_order_; }
  // Before what is in work/ replaces something: neither goes without the other then.
  Status keep_order();
  // fsync(2) of a regular file or a directory.
  static Status sync(sys::At at);

  // Builds a new object in work/.
  Result<Staged> stage_new(const NewObject& object);
  // Builds a copy of a lower object in work/: content, then attributes, owner, mode and
  // times in the order in which none undoes another; on disk before it returns, unless
  // volatile. A source that ends early is EIO.
  Result<Staged> stage_copy(const CopySource& source);

  // Owner and mode of an existing object. `old` is what it was. A new owner may cost it
  // set-id bits, by the daemon's rights.
  Status set_owner(sys::At at, const Identity& old, uid_t uid, gid_t gid);
  Status set_mode(sys::At at, const Identity& old, mode_t mode);

  // An access ACL, with the mode that it stands for (fs/posix_acl.c:
  // posix_acl_update_mode). `flags` as setxattr(2)'s.
  Status set_access_acl(sys::At at, const Identity& old, const std::string& value, int flags,
                        bool keep_set_group_id);

  // Publishes a staged object as `name` in `dir`. `over_whiteout`: the layer has a
  // whiteout of that name, which this replaces.
  // CRASH: the name shows what it did before, or the new object.
  Status publish(TempEntry& entry, bool is_directory, int dir, const std::string& name,
                 bool over_whiteout);

 private:
  // Of `at`: what takes no user attributes was stored as what it is.
  Result<bool> overrides(sys::At at) const;
  // Owner; with override_stat the mode too, which it holds.
  Status give_owner(sys::At self, const Identity& identity);
  Status give_mode(sys::At at, const Identity& identity);
  // The permissions that an object shown with `mode` has on disk.
  mode_t stored_mode(mode_t mode) const;
  // An access ACL of an object that has `mode`, or will have.
  Status give_acl(sys::At at, mode_t mode, const std::string& value);
  // Whether it has an access ACL, which changed the mode.
  Result<bool> copy_attributes(const CopySource& source, const Identity& identity, sys::At to);

  LayerIndex index_;
  Workdir workdir_;
  MarkWriter marks_;
  OverrideForm form_;
  Durability durability_;
  bool may_lose_order_;
};

}  // namespace layerfs
