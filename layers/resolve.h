// Which objects of the layers make up one name of a merged directory, redirects
// followed as fs/overlayfs/namei.c (Linux 6.18: ovl_lookup, ovl_lookup_layer) does.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "layers/layer_stack.h"

namespace layerfs {

// Walks the objects of one name from the top layer down, hidden ones left out.
// No locks: the caller serialises. Opens what it needs and keeps no descriptor.
class NameWalk {
 public:
  // `parents`: the sources of the directory, topmost first; must outlive the walk.
  NameWalk(const LayerStack& stack, const std::vector<DirSource>& parents, std::string_view name)
      : stack_(stack), parents_(parents), name_(name) {}

  // Only layers below `layer` are considered from now on.
  void start_below(LayerIndex layer) { first_ = static_cast<LayerIndex>(layer + 1); }
  // Continues where the value of an overlay.redirect attribute leads. A value that is
  // not a proper path is EIO: guessing would show another directory's files.
  Status follow_redirect(std::string_view value);

  struct Found {
    LayerIndex layer;
    LayerPath path;
    struct statx st;
    DirMarks marks;  // directories only
  };
  // The next object below, or nullopt: nothing more, or a whiteout. After a directory
  // that is opaque, and after anything that is no directory, the walk is over for
  // directories; a metacopy file's data is sought by calling on.
  Result<std::optional<Found>> next();

 private:
  enum class Step { Absent, Hidden, Found };
  struct Probe {
    Step step;
    struct statx st;
  };
  Result<Probe> probe(int dir, const std::string& name) const;
  Result<std::optional<Found>> next_absolute();
  Result<std::optional<Found>> next_relative();
  // Reads the marks of the directory `name` just found in `dir` and turns the walk
  // accordingly. `prefix` and `rest`: the components before and after it.
  Result<DirMarks> enter(int dir, const std::string& name, std::vector<std::string> prefix,
                         const std::vector<std::string>& rest);

  const LayerStack& stack_;
  const std::vector<DirSource>& parents_;
  std::string name_;                     // relative: sought in every parent source
  std::vector<std::string> components_;  // absolute: from each layer's root
  bool absolute_ = false;
  bool over_ = false;
  LayerIndex first_ = 0;
};

// The sources of directory `name` in layers from `first` down, with the first one's own
// attributes believed. `directory_exists_below`: as the merged listing says; false
// saves looking where nothing can be but through a redirect.
Result<std::vector<DirSource>> resolve_directory(const LayerStack& stack,
                                                 const std::vector<DirSource>& parents,
                                                 std::string_view name, LayerIndex first,
                                                 bool exists_below);

// Opens the directory of a source, O_PATH.
Result<UniqueFd> open_source(const LayerStack& stack, const DirSource& source);

}  // namespace layerfs
