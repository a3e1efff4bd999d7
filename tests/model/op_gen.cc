#include "tests/model/op_gen.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/model/layer_spec.h"

namespace layerfs::model {
namespace {

using K = OpKind;

struct Weight {
  K kind;
  unsigned weight;
};

constexpr Weight kWeights[] = {
    {K::Create, 60},    {K::Write, 45},     {K::Append, 20},      {K::Read, 25},
    {K::Truncate, 25},  {K::Unlink, 45},    {K::Rmdir, 25},       {K::Mkdir, 45},
    {K::Symlink, 18},   {K::Readlink, 6},   {K::Link, 35},        {K::Mknod, 12},
    {K::Rename, 90},    {K::Chmod, 30},     {K::Chown, 25},       {K::Utimens, 25},
    {K::SetXattr, 40},  {K::GetXattr, 12},  {K::RemoveXattr, 15}, {K::ListXattr, 5},
    {K::Stat, 15},      {K::Access, 8},     {K::List, 12},        {K::Statfs, 2},
    {K::SeekScan, 12},  {K::RemoveTree, 7}, {K::Open, 45},        {K::TmpFile, 8},
    {K::Close, 15},     {K::LinkSlot, 8},   {K::PRead, 15},       {K::PWrite, 40},
    {K::WriteSlot, 12}, {K::FTruncate, 15}, {K::FAllocate, 18},   {K::FStat, 6},
    {K::FSync, 8},      {K::Seek, 8},       {K::CopyRange, 15},   {K::MapWrite, 12},
    {K::MapRead, 8},    {K::FChmod, 6},     {K::FChown, 6},       {K::FUtimens, 8},
    {K::FSetXattr, 6},  {K::OpenDir, 10},   {K::ReadSome, 25},    {K::RewindDir, 4},
    {K::CloseDir, 4},
};

constexpr unsigned total_weight() {
  unsigned total = 0;
  for (const Weight& weight : kWeights) {
    total += weight.weight;
  }
  return total;
}

constexpr std::size_t kCrowded = 320;

}  // namespace

Op OpGenerator::next() {
  Op op;
  if (++since_compare_ >= options_.compare_every) {
    since_compare_ = 0;
    op.kind = K::Compare;
    return op;
  }
  const auto rare = random_.below(2000);
  if (rare == 0 && options_.remounts) {
    op.kind = K::Remount;
    return op;
  }
  if (rare == 1 && options_.rotations) {
    op.kind = K::Rotate;
    return op;
  }
  if (rare >= 2 && rare < 8 && options_.drop_caches) {
    op.kind = K::DropCaches;
    return op;
  }
  K kind = K::Stat;
  auto dice = random_.below(total_weight());
  for (const Weight& weight : kWeights) {
    if (dice < weight.weight) {
      kind = weight.kind;
      break;
    }
    dice -= weight.weight;
  }
  if (picture_.size() > kCrowded && random_.chance(15)) {
    kind = K::RemoveTree;
  }
  op.kind = kind;
  if (random_.chance(25)) {
    op.as = random_.chance(70) ? 1000 : 1001;
  }
  if (random_.chance(20)) {
    op.mask = random_.chance(50) ? 0U : 0077U;
  }
  if (kind >= K::OpenDir && kind <= K::CloseDir) {
    by_dir_slot(op);
  } else if (form_of(kind).p && kind != K::Open && kind != K::TmpFile && kind != K::LinkSlot) {
    by_path(op, kind);
  } else {
    by_slot(op, kind);
  }
  return op;
}

void OpGenerator::by_path(Op& op, K kind) {
  auto& n = op.n;
  switch (kind) {
    case K::Create:
      op.p = random_.chance(70) ? fresh() : some_path(Want::File);
      n[0] = (random_.chance(30) ? O_EXCL : 0) | (random_.chance(20) ? O_TRUNC : 0);
      n[1] = mode();
      break;
    case K::Write:
      op.p = some_path(Want::File);
      n = {offset(), length(), random_.between(1, 1'000'000), random_.chance(15) ? O_TRUNC : 0, 0};
      break;
    case K::Append:
      op.p = some_path(Want::File);
      n = {length(), random_.between(1, 1'000'000), 0, 0, 0};
      break;
    case K::Read:
      op.p = some_path(Want::File);
      n = {offset(), length(), 0, 0, 0};
      break;
    case K::Truncate:
      op.p = some_path(Want::File);
      n[0] = random_.chance(30) ? 0 : offset();
      break;
    case K::Mkdir:
      op.p = random_.chance(85) ? fresh() : some_path(Want::Any);
      n[0] = random_.chance(60) ? 0777 : mode();
      break;
    case K::Symlink:
      op.p = random_.chance(85) ? fresh() : some_path(Want::Any);
      op.q =
          random_.chance(10) ? std::string(static_cast<std::size_t>(random_.between(1, 4000)), 'x')
          : random_.chance(30) ? "../" + std::string(1, static_cast<char>('a' + random_.below(8)))
                               : std::string(1, static_cast<char>('a' + random_.below(8)));
      break;
    case K::Mknod: {
      static constexpr unsigned kTypes[] = {S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK, S_IFREG};
      const unsigned type = kTypes[random_.below(5)];
      op.p = random_.chance(85) ? fresh() : some_path(Want::Any);
      n[0] = static_cast<std::int64_t>(type) | (mode() & 0777);
      n[1] =
          type == S_IFCHR || type == S_IFBLK
              ? static_cast<std::int64_t>(makedev(240U, static_cast<unsigned>(random_.below(200))))
              : 0;
      break;
    }
    case K::Link:
      op.p = some_path(random_.chance(85) ? Want::File : Want::Any);
      op.q = random_.chance(85) ? fresh() : some_path(Want::Any);
      n[0] = random_.chance(10) ? AT_SYMLINK_FOLLOW : 0;
      break;
    case K::Rename: {
      const auto dice = random_.below(100);
      n[0] = dice < 70 ? 0 : dice < 80 ? RENAME_NOREPLACE : RENAME_EXCHANGE;
      op.p = some_path(random_.chance(40) ? Want::Directory : Want::Any);
      const bool meet = random_.chance(n[0] == RENAME_EXCHANGE ? 95 : 35);
      op.q = meet ? some_path(random_.chance(40) ? Want::Directory : Want::Any) : fresh();
      if (random_.chance(4)) {
        op.q = join(op.p, name());  // into itself
      }
      break;
    }
    case K::Chmod:
      op.p = some_path(Want::Any);
      n[0] = mode();
      break;
    case K::Chown:
      op.p = some_path(Want::Any);
      n = {id(), id(), 0, 0, 0};
      n[0] = n[0] < 0 && n[1] < 0 ? 0 : n[0];  // both -1: FUSE has no request for it
      break;
    case K::Utimens:
      op.p = some_path(Want::Any);
      times(op, 0);
      break;
    case K::SetXattr:
      op.p = some_path(Want::Any);
      n = {xattr(), random_.between(1, 9999), random_.between(0, 60), 0, 0};
      n[3] = random_.chance(80) ? 0 : random_.chance(50) ? XATTR_CREATE : XATTR_REPLACE;
      break;
    case K::GetXattr:
    case K::RemoveXattr:
      op.p = some_path(Want::Any);
      n[0] = xattr();
      break;
    case K::Access:
      op.p = some_path(Want::Any);
      n[0] = random_.between(0, 7);
      break;
    case K::Rmdir:
    case K::List:
      op.p = some_path(Want::Directory);
      break;
    case K::RemoveTree:
      op.p = some_path(Want::Directory);
      op.p = op.p == "." ? existing(Want::Any) : op.p;
      break;
    case K::SeekScan:
      op.p = some_path(Want::File);
      break;
    default:
      op.p = some_path(Want::Any);
      break;
  }
}

void OpGenerator::by_slot(Op& op, K kind) {
  auto& n = op.n;
  n[0] = slot();
  switch (kind) {
    case K::Open:
      n[0] = random_.between(0, kFileSlots - 1);
      op.p = random_.chance(85) ? some_path(Want::File) : fresh();
      n[1] = open_flags();
      n[2] = mode();
      break;
    case K::TmpFile:
      n[0] = random_.between(0, kFileSlots - 1);
      op.p = random_.chance(10) ? "." : some_path(Want::Directory);
      n[1] = O_RDWR | (random_.chance(10) ? O_EXCL : 0);
      n[2] = mode();
      break;
    case K::LinkSlot:
      op.as = 0;
      op.p = fresh();
      break;
    case K::PRead:
    case K::MapRead:
      n[1] = offset();
      n[2] = length();
      break;
    case K::PWrite:
    case K::MapWrite:
      n[1] = offset();
      n[2] = length();
      n[3] = random_.between(1, 1'000'000);
      break;
    case K::WriteSlot:
      n[1] = length();
      n[2] = random_.between(1, 1'000'000);
      break;
    case K::FTruncate:
      n[1] = random_.chance(25) ? 0 : offset();
      break;
    case K::FAllocate: {
      static constexpr int kModes[] = {
          0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE,
          FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE};
      n[1] = kModes[random_.below(options_.zero_range ? 5 : 3)];
      n[2] = random_.between(0, 200'000);
      n[3] = random_.between(0, 60'000);
      break;
    }
    case K::FSync:
      n[1] = random_.between(0, 1);
      break;
    case K::Seek: {
      static constexpr int kWhences[] = {SEEK_SET, SEEK_CUR, SEEK_END, SEEK_DATA, SEEK_HOLE};
      n[1] = kWhences[random_.below(5)];
      n[2] = random_.between(-100, 100'000);
      break;
    }
    case K::CopyRange:
      n[1] = slot();
      n[2] = random_.between(0, 30'000);
      n[3] = random_.between(0, 60'000);
      n[4] = random_.between(0, 60'000);
      break;
    case K::FChmod:
      n[1] = mode();
      break;
    case K::FChown:
      n[1] = id();
      n[2] = id();
      n[1] = n[1] < 0 && n[2] < 0 ? 0 : n[1];
      break;
    case K::FUtimens:
      times(op, 1);
      break;
    case K::FSetXattr:
      n[1] = xattr();
      n[2] = random_.between(1, 9999);
      n[3] = random_.between(0, 60);
      break;
    default:
      break;
  }
}

void OpGenerator::by_dir_slot(Op& op) {
  op.as = 0;
  op.n[0] = random_.between(0, kDirSlots - 1);
  if (op.kind != K::OpenDir) {
    for (std::size_t i = 0; i < kDirSlots; ++i) {
      const std::size_t at = (static_cast<std::size_t>(op.n[0]) + i) % kDirSlots;
      if (open_dirs_[at]) {
        op.n[0] = static_cast<std::int64_t>(at);
        break;
      }
    }
  }
  if (op.kind == K::OpenDir) {
    op.p = random_.chance(20) ? "." : some_path(Want::Directory);
  } else if (op.kind == K::ReadSome) {
    op.n[1] = random_.between(300, 1200);
  }
}

std::string OpGenerator::existing(Want want) {
  for (int tries = 0; tries < 4 && !picture_.empty(); ++tries) {
    auto it = picture_.begin();
    std::advance(it, static_cast<std::ptrdiff_t>(random_.below(picture_.size())));
    for (std::size_t i = 0; i < picture_.size(); ++i) {
      const bool fits = want == Want::Any || (want == Want::Directory) == (it->second == 'd');
      if (fits && (want != Want::File || it->second == 'f' || random_.chance(10))) {
        return it->first;
      }
      if (++it == picture_.end()) {
        it = picture_.begin();
      }
    }
  }
  return want == Want::Directory ? "." : "a";
}

std::string OpGenerator::name() {
  const auto dice = random_.below(1000);
  if (dice < 15) {
    return std::string(options_.long_name, static_cast<char>('a' + random_.below(3)));
  }
  if (dice < 18) {
    return std::string(256, 'a');
  }
  if (dice < 30) {
    return dice < 22 ? "sp ace\n" : "\xff\xfe\x80";
  }
  if (dice < 200) {
    return std::string(1, static_cast<char>('i' + random_.below(12))) +
           std::to_string(random_.below(10));
  }
  return std::string(1, static_cast<char>('a' + random_.below(8)));
}

std::string OpGenerator::fresh() {
  const std::string dir = random_.chance(15) ? "." : existing(Want::Directory);
  return join(dir, name());
}

std::string OpGenerator::some_path(Want want) {
  const auto dice = random_.below(100);
  if (dice < 84) {
    return existing(want);
  }
  if (dice < 87) {
    return existing(Want::Any);
  }
  if (dice < 89) {
    return ".";
  }
  if (dice < 92) {
    return join(existing(Want::Any), name());
  }
  return fresh();
}

std::int64_t OpGenerator::offset() {
  const auto dice = random_.below(1000);
  if (dice < 250) {
    return 0;
  }
  if (dice < 400) {
    return 4096 * random_.between(0, 8);
  }
  if (dice < 850) {
    return random_.between(0, 20'000);
  }
  if (dice < 997) {
    return random_.between(0, 300'000);
  }
  return random_.chance(50) ? random_.between(1 << 20, 64 << 20) : 5'000'000'000;
}

std::int64_t OpGenerator::length() {
  const auto dice = random_.below(100);
  if (dice < 5) {
    return 0;
  }
  return dice < 30   ? random_.between(1, 64)
         : dice < 90 ? random_.between(1, 9000)
                     : random_.between(1, 70'000);
}

std::int64_t OpGenerator::mode() {
  static constexpr int kModes[] = {0644, 0600, 0755, 0777, 0666, 0444, 0700, 0000, 0640, 0711};
  const std::int64_t bits = kModes[random_.below(10)];
  const auto dice = random_.below(100);
  return bits | (dice < 6 ? 04000 : dice < 12 ? 02000 : dice < 14 ? 06000 : dice < 18 ? 01000 : 0);
}

std::int64_t OpGenerator::open_flags() {
  const auto dice = random_.below(100);
  std::int64_t flags = dice < 30 ? O_RDONLY : dice < 45 ? O_WRONLY : O_RDWR;
  flags |= random_.chance(15) ? O_APPEND : 0;
  flags |= random_.chance(10) ? O_TRUNC : 0;
  flags |= random_.chance(30) ? O_CREAT : 0;
  flags |= random_.chance(5) ? O_EXCL | O_CREAT : 0;
  return flags | (random_.chance(3) ? O_NOFOLLOW : 0);
}

std::int64_t OpGenerator::xattr() {
  static constexpr int kNames[] = {0, 0, 1, 1, 2, 3, 4, 4, 5, 5, 6, 7};
  return kNames[random_.below(12)];
}

void OpGenerator::times(Op& op, std::size_t first) {
  op.n[first] = random_.below(10) < 6 ? 0 : random_.between(1, 3);
  op.n[first + 1] = random_.between(-1000, 1'500'000'000);
  op.n[first + 2] = random_.between(0, 999'999'999);
}

std::int64_t OpGenerator::slot() {
  const auto start = random_.below(kFileSlots);
  for (std::size_t i = 0; i < kFileSlots; ++i) {
    const std::size_t at = (start + i) % kFileSlots;
    if (open_[at]) {
      return static_cast<std::int64_t>(at);
    }
  }
  return static_cast<std::int64_t>(start);
}

void OpGenerator::erase(const std::string& path) {
  picture_.erase(path);
  for (auto it = picture_.lower_bound(path + "/");
       it != picture_.end() && layerfs::model::is_below(it->first, path);) {
    it = picture_.erase(it);
  }
}

void OpGenerator::move(const std::string& from, const std::string& to) {
  std::map<std::string, char> moved;
  for (const auto& [path, type] : picture_) {
    if (path == from || is_below(path, from)) {
      moved[to + path.substr(from.size())] = type;
    }
  }
  erase(from);
  picture_.insert(moved.begin(), moved.end());
}

void OpGenerator::learn_rename(const Op& op) {
  if (op.p == op.q) {
    return;
  }
  if (op.n[0] == RENAME_EXCHANGE) {
    const std::string parked = "\x01parked";
    move(op.p, parked);
    move(op.q, op.p);
    move(parked, op.q);
  } else {
    erase(op.q);
    move(op.p, op.q);
  }
}

void OpGenerator::learn(const Op& op, const Outcome& outcome) {
  if (op.kind == K::Open || op.kind == K::TmpFile) {
    open_[static_cast<std::size_t>(op.n[0])] = outcome.error == 0;
  } else if (op.kind == K::OpenDir) {
    open_dirs_[static_cast<std::size_t>(op.n[0])] = outcome.error == 0;
  }
  if (op.kind == K::RemoveTree) {
    erase(op.p);
    return;
  }
  if (outcome.error != 0) {
    return;
  }
  switch (op.kind) {
    case K::Create:
    case K::LinkSlot:
      picture_.emplace(op.p, 'f');
      break;
    case K::Open:
      if ((op.n[1] & O_CREAT) != 0) {
        picture_.emplace(op.p, 'f');
      }
      break;
    case K::Mkdir:
      picture_[op.p] = 'd';
      break;
    case K::Symlink:
      picture_[op.p] = 'l';
      break;
    case K::Mknod:
      picture_[op.p] = S_ISREG(static_cast<mode_t>(op.n[0])) ? 'f' : 'n';
      break;
    case K::Link: {
      const auto found = picture_.find(op.p);
      picture_[op.q] = found == picture_.end() ? 'f' : found->second;
      break;
    }
    case K::Unlink:
    case K::Rmdir:
      erase(op.p);
      break;
    case K::Rename:
      learn_rename(op);
      break;
    case K::Close:
      open_[static_cast<std::size_t>(op.n[0])] = false;
      break;
    case K::CloseDir:
      open_dirs_[static_cast<std::size_t>(op.n[0])] = false;
      break;
    case K::Remount:
    case K::Rotate:
      open_.fill(false);
      open_dirs_.fill(false);
      break;
    default:
      break;
  }
}

void OpGenerator::look(int root) {
  picture_.clear();
  std::vector<std::string> pending{"."};
  while (!pending.empty()) {
    const std::string dir = pending.back();
    pending.pop_back();
    const int fd = ::openat(root, dir.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    std::vector<ListedName> names;
    list_directory(fd, names);
    ::close(fd);
    for (const ListedName& entry : names) {
      if (entry.name == "." || entry.name == "..") {
        continue;
      }
      const std::string path = join(dir, entry.name);
      picture_[path] = entry.type == DT_DIR   ? 'd'
                       : entry.type == DT_REG ? 'f'
                       : entry.type == DT_LNK ? 'l'
                                              : 'n';
      if (entry.type == DT_DIR) {
        pending.push_back(path);
      }
    }
  }
}

}  // namespace layerfs::model
