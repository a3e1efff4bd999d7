#include "layers/resolve.h"

#include <fcntl.h>

#include <utility>

#include "layers/path_text.h"

namespace layerfs {

Result<UniqueFd> open_source(const LayerStack& stack, const DirSource& source) {
  return sys::open_beneath(stack.at(source.layer).root.get(), source.path.text(),
                           O_PATH | O_DIRECTORY);
}

Status NameWalk::follow_redirect(std::string_view value) {
  LFS_ASSIGN(auto components, parse_redirect(value));
  if (value.front() == '/') {
    absolute_ = true;
    components_ = std::move(components);
  } else if (absolute_) {
    components_.back() = std::move(components.front());
  } else {
    name_ = std::move(components.front());
  }
  return {};
}

Result<NameWalk::Probe> NameWalk::probe(int dir, const std::string& name) const {
  LFS_ASSIGN(const auto st, sys::try_stat_at({dir, name.c_str()}));
  if (st && is_whiteout_device(*st)) {
    return Probe{Step::Hidden, {}};
  }
  if (st) {
    return Probe{Step::Found, *st};
  }
  const std::string marker = std::string(kWhiteoutPrefix) + name;
  LFS_ASSIGN(const auto hidden, sys::try_stat_at({dir, marker.c_str()}));
  return Probe{hidden ? Step::Hidden : Step::Absent, {}};
}

Result<DirMarks> NameWalk::enter(int dir, const std::string& name, std::vector<std::string> prefix,
                                 const std::vector<std::string>& rest) {
  LFS_ASSIGN(DirMarks marks, read_dir_marks({dir, name.c_str()}));
  if (marks.opaque == Opaque::Yes) {
    over_ = true;
    return marks;
  }
  if (!marks.redirect) {
    // A directory beside its own whiteout: it replaced what was below
    // (OCI image spec, layer.md, "Whiteouts"). One that is redirected has its lower part
    // elsewhere, and the whiteout is of what it moved away from.
    const std::string marker = std::string(kWhiteoutPrefix) + name;
    LFS_ASSIGN(const auto replaced, sys::try_stat_at({dir, marker.c_str()}));
    over_ = over_ || replaced.has_value();
    return marks;
  }
  LFS_ASSIGN(auto target, parse_redirect(*marks.redirect));
  if (marks.redirect->front() == '/') {
    absolute_ = true;
    prefix.clear();
    // An opaque directory on the way here hides what is below itself, not what the redirect
    // names.
    over_ = false;
  } else if (!absolute_) {
    name_ = std::move(target.front());
    return marks;
  }
  for (std::string& component : target) {
    prefix.push_back(std::move(component));
  }
  prefix.insert(prefix.end(), rest.begin(), rest.end());
  components_ = std::move(prefix);
  return marks;
}

Result<std::optional<NameWalk::Found>> NameWalk::next() {
  while (!over_) {
    const LayerIndex before = first_;
    LFS_ASSIGN(auto found, absolute_ ? next_absolute() : next_relative());
    if (found) {
      return found;
    }
    // A redirect met on the way changes how the layers below are searched.
    if (first_ == before || first_ >= stack_.size()) {
      break;
    }
  }
  return std::optional<Found>();
}

Result<std::optional<NameWalk::Found>> NameWalk::next_relative() {
  for (const DirSource& source : parents_) {
    if (source.layer < first_) {
      continue;
    }
    first_ = static_cast<LayerIndex>(source.layer + 1);
    LFS_ASSIGN(const UniqueFd dir, open_source(stack_, source));
    LFS_ASSIGN(const Probe probed, probe(dir.get(), name_));
    if (probed.step == Step::Hidden) {
      over_ = true;
      return std::optional<Found>();
    }
    if (probed.step == Step::Absent) {
      continue;
    }
    Found found{source.layer, source.path.child(name_), probed.st, {}};
    if (S_ISDIR(probed.st.stx_mode)) {
      LFS_ASSIGN(found.marks, enter(dir.get(), std::string(name_), {}, {}));
    }
    return std::optional<Found>(std::move(found));
  }
  first_ = stack_.size();
  return std::optional<Found>();
}

Result<std::optional<NameWalk::Found>> NameWalk::next_absolute() {
  while (first_ < stack_.size()) {
    const LayerIndex layer = first_++;
    if (stack_.at(layer).role != LayerRole::Lower) {
      continue;
    }
    LFS_ASSIGN(UniqueFd dir,
               sys::open_beneath(stack_.at(layer).root.get(), "", O_PATH | O_DIRECTORY));
    LayerPath path;
    const std::vector<std::string> components = components_;
    for (std::size_t i = 0; i < components.size(); ++i) {
      const std::string& name = components[i];
      const bool last = i + 1 == components.size();
      LFS_ASSIGN(const Probe probed, probe(dir.get(), name));
      if (probed.step == Step::Absent) {
        break;
      }
      if (probed.step == Step::Hidden || (!last && !S_ISDIR(probed.st.stx_mode))) {
        over_ = true;
        return std::optional<Found>();
      }
      path = path.child(name);
      Found found{layer, path, probed.st, {}};
      if (S_ISDIR(probed.st.stx_mode)) {
        const auto here = components.begin() + static_cast<std::ptrdiff_t>(i);
        LFS_ASSIGN(found.marks, enter(dir.get(), name, {components.begin(), here},
                                      {here + 1, components.end()}));
      }
      if (last) {
        return std::optional<Found>(std::move(found));
      }
      LFS_ASSIGN(dir, sys::open_at({dir.get(), name.c_str()}, O_PATH | O_DIRECTORY));
    }
    if (over_) {
      return std::optional<Found>();
    }
  }
  return std::optional<Found>();
}

Result<std::vector<DirSource>> resolve_directory(const LayerStack& stack,
                                                 const std::vector<DirSource>& parents,
                                                 std::string_view name, LayerIndex first,
                                                 bool exists_below) {
  std::vector<DirSource> sources;
  NameWalk walk(stack, parents, name);
  walk.start_below(static_cast<LayerIndex>(first - 1));
  // The merged listing does not tell what is where a redirect leads.
  bool more_below = exists_below;
  for (;;) {
    LFS_ASSIGN(const auto found, walk.next());
    if (!found || !S_ISDIR(found->st.stx_mode)) {
      return sources;
    }
    sources.push_back({found->layer, found->marks.opaque == Opaque::Whiteouts, found->path});
    more_below = more_below || found->marks.redirect.has_value();
    if (!more_below) {
      return sources;
    }
  }
}

}  // namespace layerfs
