#include "layers/path_text.h"

namespace layerfs {

bool is_valid_component(std::string_view name) {
  return !name.empty() && name.size() <= kMaxNameBytes && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\0", 2)) == std::string_view::npos;
}

Result<std::vector<std::string>> parse_redirect(std::string_view value) {
  std::vector<std::string> components;
  if (!is_absolute_redirect(value)) {
    if (!is_valid_component(value)) {
      return Errno(EIO);
    }
    components.emplace_back(value);
    return components;
  }
  while (!value.empty()) {
    value.remove_prefix(1);  // the '/' before each component
    const std::string_view component = value.substr(0, value.find('/'));
    if (!is_valid_component(component)) {
      return Errno(EIO);
    }
    components.emplace_back(component);
    value.remove_prefix(component.size());
  }
  return components;
}

std::string join(const std::vector<std::string>& components) {
  std::string path;
  for (const std::string& component : components) {
    if (!path.empty()) {
      path += '/';
    }
    path += component;
  }
  return path;
}

std::string join(std::string_view dir, std::string_view name) {
  std::string path(dir);
  if (!dir.empty() && !name.empty() && !dir.ends_with('/')) {
    path += '/';
  }
  path += name;
  return path;
}

Failure cannot_read(std::string_view path, Errno error) {
  std::string message = "cannot read '/" + std::string(path) + "': " + describe(error);
  if (error.value() == ENODATA) {
    message = "'/" + std::string(path) +
              "' is here with its attributes only, and no layer below has its data; give also the "
              "layers that it was copied up from";
  } else if (is_not_permitted(error)) {
    message += "; read the layers as root, or in the user namespace that they belong to";
  } else if (error.value() == EIO) {
    message += "; a layer is damaged, or changed while it was read";
  }
  return {message};
}

}  // namespace layerfs
