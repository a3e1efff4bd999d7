#include "layers/sys/quiet_open.h"

#include <fcntl.h>

#include <cerrno>

namespace layerfs::sys {
namespace {

template <class Open>
Result<UniqueFd> open_quietly(int flags, const Open& open) {
  auto quiet = open(flags | O_NOATIME);
  return quiet || quiet.error().value() != EPERM ? std::move(quiet) : open(flags);
}

}  // namespace

Result<UniqueFd> open_quietly_beneath(int root, std::string_view path, int flags) {
  return open_quietly(flags, [&](int with) { return open_beneath(root, path, with); });
}

Result<UniqueFd> open_quietly_at(At at, int flags) {
  return open_quietly(flags, [&](int with) { return open_at(at, with); });
}

}  // namespace layerfs::sys
