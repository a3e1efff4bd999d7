#include "layers/merged_names.h"

#include <dirent.h>

#include "layers/path_text.h"

namespace layerfs {
namespace {

// A name, NUL, and this; so they are in the order of their names, and those of one name in
// the order of the layers.
struct Tail {
  LayerIndex layer;
  bool is_whiteout;
  unsigned char type;
};
constexpr std::size_t kTailBytes = 5;  // with the NUL

void append_tail(std::string& record, const Tail& tail) {
  record += {'\0', static_cast<char>(tail.layer >> 8U), static_cast<char>(tail.layer & 0xffU),
             static_cast<char>(tail.is_whiteout), static_cast<char>(tail.type)};
}

Tail tail_of(std::string_view record) {
  const auto byte = [&record](std::size_t i) {
    return static_cast<unsigned char>(record[record.size() - i]);
  };
  return {static_cast<LayerIndex>(byte(4) << 8U | byte(3)), byte(2) != 0, byte(1)};
}

std::string_view name_of(std::string_view record) {
  return record.substr(0, record.size() - kTailBytes);
}

}  // namespace

Result<std::unique_ptr<MergedNames>, Failure> MergedNames::read(
    const std::vector<MergeInput>& inputs, SortSpace& space, std::uint64_t most,
    std::string_view path) {
  std::unique_ptr<MergedNames> names(new MergedNames(space));
  std::string record;
  for (const MergeInput& input : inputs) {
    auto reader = LayerReader::open(input);
    if (!reader) {
      return cannot_read(path, reader.error());
    }
    for (;;) {
      const auto entry = reader->next();
      if (!entry) {
        return cannot_read(path, entry.error());
      }
      if (!*entry) {
        break;
      }
      if (names->sorter_.count() == most) {
        return std::unique_ptr<MergedNames>();
      }
      record = (*entry)->name;
      append_tail(record, {input.layer, (*entry)->is_whiteout, (*entry)->type});
      LFS_TRY(names->sorter_.add(record));
    }
  }
  LFS_TRY(names->sorter_.finish());
  names->rewind();
  return names;
}

Result<std::optional<MergedName>, Failure> MergedNames::next() {
  LFS_ASSIGN(auto head, reader_.head());
  if (!head) {
    return std::optional<MergedName>();
  }
  name_ = name_of(*head);
  MergedName merged{name_};
  bool is_closed = false;  // no lower layer contributes any more
  while (head && name_of(*head) == name_) {
    const Tail tail = tail_of(*head);
    if (tail.is_whiteout) {
      merged.has_whiteout = true;
      is_closed = true;
    } else if (!is_closed && merged.is_shown) {
      merged.exists_below = true;
      is_closed = merged.type == DT_DIR && tail.type != DT_DIR;
    } else if (!is_closed) {
      merged.is_shown = true;
      merged.layer = tail.layer;
      merged.type = tail.type;
    }
    reader_.pop();
    LFS_ASSIGN(head, reader_.head());
  }
  return std::optional<MergedName>(merged);
}

}  // namespace layerfs
