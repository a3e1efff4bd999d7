#include "layers/directory_merge.h"

#include <dirent.h>
#include <fcntl.h>

#include "layers/sys/quiet_open.h"
#include "whiteout/marks.h"

namespace layerfs {
namespace {

struct OwnedEntry {
  std::string name;
  unsigned char type;
};

struct LayerContent {
  std::vector<OwnedEntry> shown;
  std::vector<std::string> whiteouts;
};

unsigned char type_of_mode(unsigned mode) { return static_cast<unsigned char>(IFTODT(mode)); }

Result<LayerContent> read_layer(const MergeInput& input) {
  LFS_ASSIGN(LayerReader reader, LayerReader::open(input));
  LayerContent content;
  for (;;) {
    LFS_ASSIGN(const auto entry, reader.next());
    if (!entry) {
      return content;
    }
    if (entry->is_whiteout) {
      content.whiteouts.emplace_back(entry->name);
    } else {
      content.shown.push_back({std::string(entry->name), entry->type});
    }
  }
}

}  // namespace

Result<LayerReader> LayerReader::open(const MergeInput& input) {
  LFS_ASSIGN(UniqueFd fd, sys::open_quietly_at({input.dir, "."}, O_RDONLY | O_DIRECTORY));
  return LayerReader(std::move(fd), input.xattr_whiteouts);
}

Result<std::optional<LayerEntry>> LayerReader::next() {
  for (;;) {
    LFS_ASSIGN(const auto read, reader_.next());
    if (!read) {
      return std::optional<LayerEntry>();
    }
    if (is_reserved_name(read->name)) {
      const std::string_view hidden = read->name.substr(kWhiteoutPrefix.size());
      // ".wh..wh.*" are the marker of opaque directories and aufs' own files.
      if (!hidden.starts_with(kWhiteoutPrefix)) {
        return std::optional<LayerEntry>({hidden, DT_UNKNOWN, true});
      }
      continue;
    }
    LayerEntry entry{read->name, read->type, false};
    LFS_TRY(classify(entry));
    return std::optional<LayerEntry>(entry);
  }
}

// Whether the entry is a whiteout; also settles a type the filesystem did not tell.
Status LayerReader::classify(LayerEntry& entry) const {
  const bool may_be_whiteout = entry.type == DT_CHR || (xattr_whiteouts_ && entry.type == DT_REG);
  if (entry.type != DT_UNKNOWN && !may_be_whiteout) {
    return {};
  }
  const std::string name(entry.name);
  const sys::At at{fd_.get(), name.c_str()};
  LFS_ASSIGN(const auto st, sys::stat_at(at));
  entry.type = type_of_mode(st.stx_mode);
  entry.is_whiteout = is_whiteout_device(st);
  if (!entry.is_whiteout && xattr_whiteouts_ && S_ISREG(st.stx_mode) && st.stx_size == 0) {
    LFS_ASSIGN(entry.is_whiteout, is_whiteout_by_xattr(at));
  }
  return {};
}

Result<MergedDirectory> merge_directory(const std::vector<MergeInput>& inputs) {
  MergedDirectory merged;
  // Names that no lower layer contributes to any more.
  std::unordered_set<std::string> closed;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const MergeInput& input = inputs[i];
    const bool more_below = i + 1 < inputs.size();
    LFS_ASSIGN(LayerContent content, read_layer(input));
    // What is in the layer beside a whiteout of the same name is shown: the whiteout
    // concerns the layers below only (OCI image spec, layer.md).
    for (OwnedEntry& entry : content.shown) {
      if (closed.contains(entry.name)) {
        continue;
      }
      if (const auto* known = merged.visible.find(entry.name)) {
        const std::uint8_t flags = known->flags | kExistsBelow;
        merged.visible.insert(entry.name, known->type, known->layer, flags);
        if (known->type == DT_DIR && entry.type != DT_DIR && more_below) {
          closed.insert(std::move(entry.name));
        }
        continue;
      }
      merged.visible.insert(entry.name, entry.type, input.layer, 0);
    }
    for (std::string& name : content.whiteouts) {
      if (input.role == LayerRole::Upper) {
        merged.upper_whiteouts.insert(name);
      } else if (input.role == LayerRole::Init) {
        merged.init_whiteouts.insert(name);
      }
      if (more_below) {
        closed.insert(std::move(name));
      }
    }
  }
  return merged;
}

}  // namespace layerfs
