#include "tests/model/op.h"

#include <linux/capability.h>

#include <cstring>

#include "tests/model/random.h"

namespace layerfs::model {
namespace {

using K = OpKind;

constexpr OpForm kForms[] = {
    {K::Create, "create", true, false, {"flags", "mode"}},
    {K::Write, "write", true, false, {"off", "len", "fill", "flags"}},
    {K::Append, "append", true, false, {"len", "fill"}},
    {K::Read, "read", true, false, {"off", "len"}},
    {K::Truncate, "truncate", true, false, {"len"}},
    {K::Unlink, "unlink", true, false, {}},
    {K::Rmdir, "rmdir", true, false, {}},
    {K::Mkdir, "mkdir", true, false, {"mode"}},
    {K::Symlink, "symlink", true, true, {}},
    {K::Readlink, "readlink", true, false, {}},
    {K::Link, "link", true, true, {"flags"}},
    {K::Mknod, "mknod", true, false, {"mode", "dev"}},
    {K::Rename, "rename", true, true, {"flags"}},
    {K::Chmod, "chmod", true, false, {"mode"}},
    {K::Chown, "chown", true, false, {"uid", "gid"}},
    {K::Utimens, "utimens", true, false, {"how", "sec", "nsec"}},
    {K::SetXattr, "setxattr", true, false, {"name", "fill", "len", "flags"}},
    {K::GetXattr, "getxattr", true, false, {"name"}},
    {K::RemoveXattr, "removexattr", true, false, {"name"}},
    {K::ListXattr, "listxattr", true, false, {}},
    {K::Stat, "stat", true, false, {}},
    {K::Access, "access", true, false, {"mode"}},
    {K::List, "list", true, false, {}},
    {K::Statfs, "statfs", true, false, {}},
    {K::SeekScan, "seekscan", true, false, {}},
    {K::RemoveTree, "rmtree", true, false, {}},
    {K::Open, "open", true, false, {"slot", "flags", "mode"}},
    {K::TmpFile, "tmpfile", true, false, {"slot", "flags", "mode"}},
    {K::Close, "close", false, false, {"slot"}},
    {K::LinkSlot, "linkslot", true, false, {"slot"}},
    {K::PRead, "pread", false, false, {"slot", "off", "len"}},
    {K::PWrite, "pwrite", false, false, {"slot", "off", "len", "fill"}},
    {K::WriteSlot, "writeslot", false, false, {"slot", "len", "fill"}},
    {K::FTruncate, "ftruncate", false, false, {"slot", "len"}},
    {K::FAllocate, "fallocate", false, false, {"slot", "mode", "off", "len"}},
    {K::FStat, "fstat", false, false, {"slot"}},
    {K::FSync, "fsync", false, false, {"slot", "data"}},
    {K::Seek, "seek", false, false, {"slot", "whence", "off"}},
    {K::CopyRange, "copyrange", false, false, {"slot", "to", "off", "tooff", "len"}},
    {K::MapWrite, "mapwrite", false, false, {"slot", "off", "len", "fill"}},
    {K::MapRead, "mapread", false, false, {"slot", "off", "len"}},
    {K::FChmod, "fchmod", false, false, {"slot", "mode"}},
    {K::FChown, "fchown", false, false, {"slot", "uid", "gid"}},
    {K::FUtimens, "futimens", false, false, {"slot", "how", "sec", "nsec"}},
    {K::FSetXattr, "fsetxattr", false, false, {"slot", "name", "fill", "len"}},
    {K::OpenDir, "opendir", true, false, {"slot"}},
    {K::ReadSome, "readsome", false, false, {"slot", "bytes"}},
    {K::RewindDir, "rewinddir", false, false, {"slot"}},
    {K::CloseDir, "closedir", false, false, {"slot"}},
    {K::Compare, "compare", false, false, {}},
    {K::Remount, "remount", false, false, {}},
    {K::Rotate, "rotate", false, false, {}},
    {K::DropCaches, "dropcaches", false, false, {}},
};

bool is_octal(std::string_view key) { return key == "mode" || key == "flags"; }

void append_le(std::string& out, std::uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) {
    out += static_cast<char>(value >> (8 * i));
  }
}

// user::, user:1000:, group::, mask::, other:: in the kernel's version 2 form.
std::string acl_value(std::int64_t fill) {
  const std::uint64_t bits = mix(static_cast<std::uint64_t>(fill));
  const auto entry = [](std::string& out, unsigned tag, std::uint64_t perm, std::uint32_t id) {
    append_le(out, tag, 2);
    append_le(out, perm & 7U, 2);
    append_le(out, id, 4);
  };
  std::string out;
  append_le(out, 2, 4);
  entry(out, 0x01, bits | 6U, ~0U);
  const bool minimal = (bits >> 40U) % 4 == 0;
  if (!minimal) {
    entry(out, 0x02, bits >> 3U, 1000 + static_cast<std::uint32_t>(bits >> 50U) % 2);
  }
  entry(out, 0x04, bits >> 6U, ~0U);
  if (!minimal) {
    entry(out, 0x10, bits >> 9U, ~0U);
  }
  entry(out, 0x20, bits >> 12U, ~0U);
  return out;
}

std::string capability_value(std::int64_t fill) {
  std::string out;
  append_le(out, VFS_CAP_REVISION_2 | (static_cast<unsigned>(fill) & 1U), 4);
  append_le(out, mix(static_cast<std::uint64_t>(fill)) & 0xffU, 4);
  append_le(out, 0, 4);
  append_le(out, 0, 4);
  append_le(out, 0, 4);
  return out;
}

}  // namespace

const OpForm& form_of(OpKind kind) { return kForms[static_cast<std::size_t>(kind)]; }

Record to_record(const Op& op) {
  const OpForm& form = form_of(op.kind);
  Record record;
  record.word = form.word;
  if (form.p) {
    record.add("p", op.p);
  }
  if (form.q) {
    record.add("q", op.q);
  }
  for (std::size_t i = 0; i < op.n.size() && form.numbers[i] != nullptr; ++i) {
    is_octal(form.numbers[i]) ? record.add_octal(form.numbers[i], op.n[i])
                              : record.add_number(form.numbers[i], op.n[i]);
  }
  if (op.as != 0) {
    record.add_number("as", op.as);
  }
  if (op.mask != 0022) {
    record.add_octal("umask", op.mask);
  }
  return record;
}

std::optional<Op> op_from_record(const Record& record) {
  for (const OpForm& form : kForms) {
    if (record.word != form.word) {
      continue;
    }
    Op op;
    op.kind = form.kind;
    op.p = record.text("p");
    op.q = record.text("q");
    for (std::size_t i = 0; i < op.n.size() && form.numbers[i] != nullptr; ++i) {
      op.n[i] = record.number(form.numbers[i]);
    }
    op.as = static_cast<int>(record.number("as"));
    op.mask = static_cast<unsigned>(record.number("umask", 0022));
    return op;
  }
  return std::nullopt;
}

std::string xattr_value(std::int64_t name, std::int64_t fill, std::int64_t size) {
  switch (name) {
    case 4:
      return capability_value(fill);
    case 5:
    case 6:
      return acl_value(fill);
    default: {
      std::string out(static_cast<std::size_t>(size), '\0');
      fill_data(static_cast<std::uint64_t>(fill), 0, reinterpret_cast<unsigned char*>(out.data()),
                out.size());
      return out;
    }
  }
}

bool changes_names(OpKind kind) {
  switch (kind) {
    case K::Create:
    case K::Unlink:
    case K::Rmdir:
    case K::Mkdir:
    case K::Symlink:
    case K::Link:
    case K::Mknod:
    case K::Rename:
    case K::RemoveTree:
    case K::Open:
    case K::LinkSlot:
      return true;
    default:
      return false;
  }
}

}  // namespace layerfs::model
