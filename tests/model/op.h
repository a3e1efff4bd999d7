// One operation, self-contained: any subsequence of a run's operations can be run again.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "tests/model/record.h"

namespace layerfs::model {

// Bytes of the longest name that is used.
inline constexpr std::size_t kMaxName = 255;

enum class OpKind : std::uint8_t {
  // By path. p is the path, q a second one (or a symlink's target).
  Create,
  Write,
  Append,
  Read,
  Truncate,
  Unlink,
  Rmdir,
  Mkdir,
  Symlink,
  Readlink,
  Link,
  Mknod,
  Rename,
  Chmod,
  Chown,
  Utimens,
  SetXattr,
  GetXattr,
  RemoveXattr,
  ListXattr,
  Stat,
  Access,
  List,
  Statfs,
  SeekScan,
  RemoveTree,
  // On an open file in a slot; p and q are used by Open, TmpFile and LinkSlot.
  Open,
  TmpFile,
  Close,
  LinkSlot,
  PRead,
  PWrite,
  WriteSlot,
  FTruncate,
  FAllocate,
  FStat,
  FSync,
  Seek,
  CopyRange,
  MapWrite,
  MapRead,
  FChmod,
  FChown,
  FUtimens,
  FSetXattr,
  // On an open directory in a slot.
  OpenDir,
  ReadSome,
  RewindDir,
  CloseDir,
  // On the mount.
  // DropCaches: the kernel forgets what it knows of the mount's objects, as under memory
  // pressure. Rotate: the upper becomes the topmost lower, under a fresh upper.
  Compare,
  Remount,
  Rotate,
  DropCaches,
  Count
};

inline constexpr std::size_t kFileSlots = 8;
inline constexpr std::size_t kDirSlots = 3;

struct Op {
  OpKind kind = OpKind::Stat;
  int as = 0;            // the uid and gid that do it
  unsigned mask = 0022;  // the umask it is done with
  std::string p;
  std::string q;
  std::array<std::int64_t, 5> n{};  // meaning by kind, see the table in op.cc
};

struct OpForm {
  OpKind kind;
  const char* word;
  bool p;
  bool q;
  std::array<const char*, 5> numbers;
};

const OpForm& form_of(OpKind kind);
Record to_record(const Op& op);
// nullopt: no such operation.
std::optional<Op> op_from_record(const Record& record);
inline std::string to_text(const Op& op) { return format_record(to_record(op)); }

// The extended attribute names that operations use, by number.
inline constexpr std::array<const char*, 8> kXattrNames = {"user.a",
                                                           "user.b",
                                                           "trusted.t",
                                                           "security.s",
                                                           "security.capability",
                                                           "system.posix_acl_access",
                                                           "system.posix_acl_default",
                                                           "user.longer.name"};
// A value of that attribute: for the structured ones a valid one chosen by `fill`, else
// `size` bytes.
std::string xattr_value(std::int64_t name, std::int64_t fill, std::int64_t size);

// Changes which names exist.
bool changes_names(OpKind kind);

}  // namespace layerfs::model
