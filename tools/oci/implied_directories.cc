#include "tools/oci/implied_directories.h"

#include "layers/link_tally.h"

namespace layerfs::oci {

using Size = std::uint32_t;

Fallible<void> ImpliedDirectories::add(std::string_view path) {
  const auto size = static_cast<Size>(path.size());
  LFS_TRY(added_.append(path));
  LFS_TRY(added_.append({reinterpret_cast<const char*>(&size), sizeof size}));
  return live_.set(spill_key_of_path(path), {});
}

Fallible<bool> ImpliedDirectories::contains(std::string_view path) const {
  LFS_ASSIGN(const auto found, live_.find(spill_key_of_path(path)));
  return found.has_value();
}

Fallible<bool> ImpliedDirectories::remove(std::string_view path) {
  LFS_ASSIGN(const bool there, contains(path));
  if (there) {
    LFS_TRY(live_.erase(spill_key_of_path(path)));
  }
  return there;
}

Fallible<void> ImpliedDirectories::for_each(
    const std::function<Fallible<void>(const std::string&)>& visit) const {
  for (std::uint64_t end = added_.size(); end > 0;) {
    Size size = 0;
    end -= sizeof size;
    LFS_TRY(added_.read(end, reinterpret_cast<char*>(&size), sizeof size));
    std::string path(size, '\0');
    end -= size;
    LFS_TRY(added_.read(end, path.data(), size));
    LFS_ASSIGN(const bool left, contains(path));
    if (left) {
      LFS_TRY(visit(path));
    }
  }
  return {};
}

}  // namespace layerfs::oci
