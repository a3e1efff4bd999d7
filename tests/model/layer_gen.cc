// Random lower layers. Names come from few letters, so that layers meet.
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "tests/model/layer_spec.h"
#include "tests/model/op.h"
#include "tests/model/random.h"

namespace layerfs::model {
namespace {

using Type = LayerEntry::Type;

class LayerGenerator {
 public:
  LayerGenerator(std::uint64_t seed, const TreeOptions& options)
      : random_(seed), options_(options) {}

  std::vector<LayerSpec> run() {
    std::vector<LayerSpec> layers;  // bottom first, while they are made
    for (int i = 0; i < options_.layers; ++i) {
      LayerSpec layer;
      layer["."] = directory();
      layer["."].mode = random_.chance(50) ? 0755 : 01777;
      layer["."].form.clear();
      const auto entries = random_.between(4, 40);
      for (std::int64_t n = 0; n < entries; ++n) {
        add_entry(layer, layers);
      }
      drop_long_shadows(layer);
      layers.push_back(std::move(layer));
    }
    return {layers.rbegin(), layers.rend()};
  }

 private:
  std::string name() {
    if (random_.chance(2)) {
      return std::string(options_.long_name, static_cast<char>('a' + random_.below(3)));
    }
    if (random_.chance(2)) {
      return random_.chance(50) ? "sp ace\n" : "\xff\xfe\x80";
    }
    return std::string(1, static_cast<char>('a' + random_.below(8)));
  }

  void attributes(LayerEntry& entry) {
    static constexpr unsigned kModes[] = {0644, 0600, 0755, 0700, 0444, 0666, 0000, 0777};
    entry.mode = kModes[random_.below(8)];
    if (random_.chance(8)) {
      entry.mode |= random_.chance(50) ? 04000U : 02000U;
    }
    entry.uid = owner();
    entry.gid = owner();
    entry.seconds = random_.between(1, 1'500'000'000);
    entry.nanoseconds = random_.between(0, 999'999'999);
    if (entry.type != Type::Symlink && random_.chance(20)) {
      entry.xattrs["trusted.t"] = xattr_value(2, random_.between(1, 99), random_.between(0, 40));
    }
    if (entry.type == Type::File || entry.type == Type::Directory) {
      for (const int number : {0, 1, 5}) {
        if (random_.chance(15)) {
          entry.xattrs[kXattrNames[static_cast<std::size_t>(number)]] =
              xattr_value(number, random_.between(1, 99), random_.between(0, 60));
        }
      }
    }
  }

  unsigned owner() {
    return random_.chance(60) ? 0U : static_cast<unsigned>(random_.between(1000, 1001));
  }

  LayerEntry directory() {
    LayerEntry entry;
    entry.type = Type::Directory;
    attributes(entry);
    static constexpr unsigned kModes[] = {0755, 0755, 0777, 01777, 02775, 0700};
    entry.mode = kModes[random_.below(6)];
    if (random_.chance(10)) {
      entry.xattrs["system.posix_acl_default"] = xattr_value(6, random_.between(1, 99), 0);
    }
    if (random_.chance(25)) {
      static constexpr const char* kForms[] = {"trusted", "user", "fuseoverlayfs", "marker",
                                               "shadow"};
      entry.form = options_.overlay_forms_only ? "trusted" : kForms[random_.below(5)];
    }
    return entry;
  }

  LayerEntry file() {
    LayerEntry entry;
    attributes(entry);
    entry.fill = random_.between(1, 1'000'000);
    switch (random_.below(6)) {
      case 0:
        break;  // empty
      case 1:
        entry.piece = random_.between(1, 9000);
        entry.pieces = random_.between(1, 4);
        entry.hole = 4096 * random_.between(1, 40);
        break;
      case 2:
        entry.hole = random_.chance(10) ? 5'000'000'000 : random_.between(1, 300'000);
        break;
      default:
        entry.piece = random_.chance(20) ? random_.between(1, 200'000) : random_.between(1, 9000);
    }
    if (random_.chance(10)) {
      entry.xattrs["security.capability"] = xattr_value(4, random_.between(1, 99), 0);
    }
    return entry;
  }

  LayerEntry other() {
    LayerEntry entry;
    if (random_.chance(60)) {
      entry.type = Type::Symlink;
      attributes(entry);
      entry.mode = 0777;
      entry.target = (random_.chance(30) ? "../" : "") +
                     std::string(1, static_cast<char>('a' + random_.below(8)));
      return entry;
    }
    entry.type = Type::Node;
    attributes(entry);
    static constexpr unsigned kTypes[] = {S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK};
    const unsigned type = kTypes[random_.below(4)];
    entry.mode = (entry.mode & 0777U) | type;
    if (type == S_IFCHR || type == S_IFBLK) {
      entry.device =
          static_cast<std::int64_t>(makedev(240U, static_cast<unsigned>(random_.below(200))));
    }
    return entry;
  }

  std::string pick(const LayerSpec& layer, bool want_directory) {
    std::vector<const std::string*> found;
    for (const auto& [path, entry] : layer) {
      if ((entry.type == Type::Directory) == want_directory && entry.type != Type::Whiteout) {
        found.push_back(&path);
      }
    }
    return found.empty() ? std::string() : *found[random_.below(found.size())];
  }

  // A path to add to: often one that a layer below has too.
  std::string place(LayerSpec& layer, const std::vector<LayerSpec>& below) {
    if (!below.empty() && random_.chance(65)) {
      const LayerSpec& from = below[random_.below(below.size())];
      const std::string path = pick(from, random_.chance(50));
      if (!path.empty() && path != "." && ensure_directory(layer, parent_of(path), from)) {
        return path;
      }
    }
    const std::string dir = pick(layer, true);
    return join(dir, name());
  }

  bool ensure_directory(LayerSpec& layer, const std::string& path, const LayerSpec& like) {
    const auto found = layer.find(path);
    if (found != layer.end()) {
      return found->second.type == Type::Directory;
    }
    if (!ensure_directory(layer, parent_of(path), like)) {
      return false;
    }
    layer[path] = directory();
    if (random_.chance(70)) {
      layer[path].form.clear();
    }
    return true;
  }

  // `.wh.` before it must leave a name that can exist.
  static void drop_long_shadows(LayerSpec& layer) {
    for (auto& [path, entry] : layer) {
      if (entry.form == "shadow" && name_of(path).size() > 200) {
        entry.form.clear();
      }
    }
  }

  void add_entry(LayerSpec& layer, const std::vector<LayerSpec>& below) {
    const std::string path = place(layer, below);
    if (layer.count(path) != 0) {
      return;
    }
    const auto dice = random_.below(100);
    if (dice < 30) {
      layer[path] = directory();
    } else if (dice < 60) {
      layer[path] = file();
    } else if (dice < 72) {
      layer[path] = other();
    } else if (dice < 84 && !below.empty()) {
      LayerEntry whiteout;
      whiteout.type = Type::Whiteout;
      const bool as_file =
          !options_.overlay_forms_only && random_.chance(50) && name_of(path).size() < 200;
      whiteout.form = as_file ? "file" : "device";
      // An opaque directory holds no whiteouts.
      if (layer[parent_of(path)].form.empty()) {
        layer[path] = whiteout;
      }
    } else if (dice < 96) {
      add_link(layer, path);
    } else {
      layer[path] = file();
    }
  }

  void add_link(LayerSpec& layer, const std::string& path) {
    std::string target = pick(layer, false);
    if (target.empty()) {
      return;
    }
    if (!layer[target].link_of.empty()) {
      target = layer[target].link_of;
    }
    const Type type = layer[target].type;
    if (type != Type::File && !options_.odd_links) {
      return;
    }
    LayerEntry link;
    link.type = type;
    link.link_of = target;
    layer[path] = link;
  }

  Random random_;
  TreeOptions options_;
};

}  // namespace

std::vector<LayerSpec> generate_layers(std::uint64_t seed, const TreeOptions& options) {
  return LayerGenerator(seed, options).run();
}

}  // namespace layerfs::model
