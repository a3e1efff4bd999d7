#include "layers/link_tally.h"

#include <dirent.h>
#include <sys/sysmacros.h>
#include <xxhash.h>

#include <algorithm>
#include <cstring>

#include "layers/path_text.h"

namespace layerfs {
namespace {

using Outcome = Result<void, Failure>;

constexpr unsigned kLayerShift = 16;
constexpr unsigned kDeviceShift = 32;
constexpr std::uint64_t kLow = 0xffff;
// Directories above the one at hand that may keep their descriptors and buffers.
constexpr std::size_t kMostOpen = 16;

LayerIndex layer_of(const SpillKey& object) {
  return static_cast<LayerIndex>(object.low >> kLayerShift);
}

std::string_view bytes_of(const SpillKey& key) {
  return {reinterpret_cast<const char*>(&key), sizeof key};
}

SpillKey key_at(std::string_view bytes) {
  SpillKey key{};
  std::memcpy(&key, bytes.data(), sizeof key);
  return key;
}

// What a name that is still to be told is sorted by: a path, NUL, and these.
constexpr std::size_t kLateTail = 2 + sizeof(SpillKey);

}  // namespace

SpillKey spill_key(const LinkKey& key) {
  // Linux' own numbers of devices have 32 bits (include/linux/kdev_t.h).
  constexpr unsigned kMinorBits = 20;
  const std::uint64_t device = std::uint64_t{major(key.device)} << kMinorBits | minor(key.device);
  return {key.ino, device << kDeviceShift | std::uint64_t{key.layer} << kLayerShift | kLow};
}

SpillKey spill_key_of_path(std::string_view path) {
  const XXH128_hash_t hash = XXH3_128bits(path.data(), path.size());
  return {hash.high64, hash.low64 | 2U};
}

// The names in order, each path once.
class LinkTally::LateNames {
 public:
  struct Name {
    std::string path;
    SpillKey object;
    bool was_found;       // by the scan, so nobody has compared it
    std::uint32_t place;  // from 1
  };

  explicit LateNames(const RecordSorter& sorter) : reader_(sorter) {}

  // false at the end.
  Result<bool, Failure> next(Name& name) {
    for (;;) {
      LFS_ASSIGN(const auto head, reader_.head());
      if (!head) {
        return false;
      }
      const std::string_view path = head->substr(0, head->size() - kLateTail);
      const bool is_new = name.place == 0 || path != name.path;
      if (is_new) {
        const std::string_view tail = head->substr(path.size());
        name = {std::string(path), key_at(tail.substr(2)), tail[1] != 0, name.place + 1};
      }
      reader_.pop();
      if (is_new) {
        return true;
      }
    }
  }

 private:
  RecordSorter::Reader reader_;
};

LinkTally::LinkTally(const MergedView& now, LayerIndex split, bool whole)
    : now_(now), split_(split), whole_(whole) {}

bool LinkTally::is_indexed(const SpillKey& object) const {
  return layer_of(object) == now_.first() && now_.index() >= 0;
}

Outcome LinkTally::add_late(std::string_view path, const SpillKey& object, bool found) {
  std::string record(path);
  record += {'\0', static_cast<char>(found)};
  record += bytes_of(object);
  return late_.add(record);
}

Outcome LinkTally::report(const ViewEntry& entry, std::string_view path) {
  const SpillKey object = spill_key(entry.link_key());
  LFS_ASSIGN(const auto known, counts_.find(object));
  Count count = known.value_or(Count{});
  count.links = entry.st.stx_nlink;
  ++count.reported;
  if (split_ < now_.stack().size()) {  // else there is no layer to find further names in
    LFS_TRY(reported_.append(bytes_of(spill_key_of_path(path))));
  }
  if (entry.links_are_all_names && count.reported == count.links) {
    return counts_.erase(object);  // none of its names is still to come
  }
  return counts_.set(object, count);
}

Outcome LinkTally::skip(const ViewEntry& entry, std::string_view path) {
  const SpillKey object = spill_key(entry.link_key());
  if (!whole_ && !is_indexed(object)) {
    return {};
  }
  LFS_ASSIGN(const auto known, counts_.find(object));
  Count count = known.value_or(Count{});
  count.links = entry.st.stx_nlink;
  ++count.skipped;
  LFS_TRY(add_late(path, object, false));
  return counts_.set(object, count);
}

Outcome LinkTally::complete(const Late& late) {
  LFS_TRY(find_outstanding());
  LFS_TRY(late_.finish());
  LateNames::Name name{};
  // A copy in the index may differ from the lower file under names that no layer above
  // has; those are compared first, since one change makes all names of the object late.
  for (LateNames names(late_);;) {
    LFS_ASSIGN(const bool more, names.next(name));
    if (!more) {
      break;
    }
    if (!name.was_found || layer_of(name.object) != now_.first()) {
      continue;
    }
    LFS_ASSIGN(const auto known, counts_.find(name.object));
    Count count = known.value_or(Count{});
    if (count.reported > 0) {
      continue;
    }
    bool reported = false;
    LFS_TRY(late(name.path, false, reported));
    if (reported) {
      count.reported = 1;
      count.first_late = name.place;
      LFS_TRY(counts_.set(name.object, count));
    }
  }
  name = {};
  for (LateNames names(late_);;) {
    LFS_ASSIGN(const bool more, names.next(name));
    if (!more) {
      return {};
    }
    LFS_ASSIGN(const auto count, counts_.find(name.object));
    if (count && count->reported > 0 && count->first_late != name.place &&
        (whole_ || is_indexed(name.object))) {
      bool reported = false;
      LFS_TRY(late(name.path, whole_, reported));
    }
  }
}

Outcome LinkTally::fill_wanted(Wanted& wanted, std::vector<bool>& layers) const {
  const LayerStack& stack = now_.stack();
  for (const IndexKey& key : now_.indexed()) {
    const std::string name = format_index_name(key);
    const sys::At at{now_.index(), name.c_str()};
    const auto st = sys::stat_at(at);
    const auto marks = st ? read_file_marks(at, st->stx_ino) : Result<FileMarks>(st.error());
    if (!marks) {
      return cannot_read(name, marks.error());
    }
    // One link is the index itself; without a count any number of names may be left.
    if (marks->nlink && parse_link_delta(*marks->nlink) + 1 <= 0) {
      continue;
    }
    const LinkKey object{now_.first(), sys::device_of(*st), st->stx_ino};
    for (LayerIndex i = split_; i < stack.size(); ++i) {
      if (stack.at(i).fsid == key.fsid) {
        LFS_TRY(wanted.set(spill_key({i, stack.at(i).device, key.ino}), spill_key(object)));
        layers[i] = true;
      }
    }
  }
  if (!whole_) {
    return {};
  }
  return counts_.for_each([&](const SpillKey& object, const Count& count) -> Outcome {
    const LayerIndex layer = layer_of(object);
    if (layer >= split_ && count.reported > 0 && count.links > count.reported + count.skipped) {
      LFS_TRY(wanted.set(object, object));
      layers[layer] = true;
    }
    return {};
  });
}

Outcome LinkTally::find_outstanding() {
  Wanted wanted;
  std::vector<bool> layers(now_.stack().size());
  LFS_TRY(fill_wanted(wanted, layers));
  if (wanted.size() == 0) {
    return {};
  }
  // By the keys of their paths, and of one path those first that are reported.
  SortSpace space;
  RecordSorter found(space);
  for (std::uint64_t at = 0; at < reported_.size(); at += sizeof(SpillKey)) {
    SpillKey key{};
    LFS_TRY(reported_.read(at, reinterpret_cast<char*>(&key), sizeof key));
    LFS_TRY(found.add(bytes_of(key)));
  }
  LFS_TRY(scan(wanted, layers, found));
  LFS_TRY(found.finish());
  RecordSorter::Reader reader(found);
  std::string reported;
  for (;;) {
    LFS_ASSIGN(const auto head, reader.head());
    if (!head) {
      return {};
    }
    const std::string_view path = head->substr(0, sizeof(SpillKey));
    const std::string_view rest = head->substr(sizeof(SpillKey));
    if (rest.empty()) {
      reported = path;
    } else if (path != reported) {
      LFS_TRY(add_late(rest.substr(sizeof(SpillKey)), key_at(rest), true));
    }
    reader.pop();
  }
}

// Depth first over the whole tree: nothing tells where else an inode has names.
Outcome LinkTally::scan(const Wanted& wanted, const std::vector<bool>& layers,
                        RecordSorter& found) {
  struct Level {
    ViewDirectory dir;
    std::unique_ptr<MergedNames> names;
    std::size_t path_size;
  };
  SortSpace space;
  std::vector<Level> levels;
  std::string path;
  const auto enter = [&](const ViewEntry& entry) -> Outcome {
    Level level{now_.directory(entry), nullptr, path.size()};
    LFS_ASSIGN(level.names, now_.names(level.dir, now_.first(), now_.stack().size(), space, path));
    if (levels.size() > kMostOpen) {
      levels.back().dir.close();
      levels.back().names->rest();
    }
    levels.push_back(std::move(level));
    return {};
  };
  LFS_TRY(enter(now_.root()));
  while (!levels.empty()) {
    Level& level = levels.back();
    path.resize(level.path_size);
    LFS_ASSIGN(const auto listed, level.names->next());
    if (!listed) {
      levels.pop_back();
      continue;
    }
    if (!listed->is_shown || (listed->type != DT_DIR && !layers[listed->layer])) {
      continue;
    }
    path = join(path, listed->name);
    if (listed->type == DT_DIR) {
      const auto entry = now_.entry(level.dir, listed->name, listed->layer, listed->exists_below);
      if (!entry) {
        return cannot_read(path, entry.error());
      }
      LFS_TRY(enter(*entry));
      continue;
    }
    const std::string name(listed->name);
    const auto fd = level.dir.open(listed->layer);
    const auto st = fd ? sys::stat_at({*fd, name.c_str()}) : Result<struct statx>(fd.error());
    if (!st) {
      return cannot_read(path, st.error());
    }
    const auto key = spill_key({listed->layer, sys::device_of(*st), st->stx_ino});
    LFS_ASSIGN(const auto object, wanted.find(key));
    if (object) {
      std::string record(bytes_of(spill_key_of_path(path)));
      record += bytes_of(*object);
      record += path;
      LFS_TRY(found.add(record));
    }
  }
  return {};
}

}  // namespace layerfs
