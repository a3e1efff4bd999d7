// Damage done to the mount's side behind the operations' back, to see the comparison
// find it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace layerfs::model {

enum class Sabotage : std::uint8_t {
  None,
  Mode,
  Owner,
  Time,
  Content,
  Size,
  Name,
  Xattr,
  Link,
  Target
};
std::optional<Sabotage> sabotage_from(const std::string& word);
// Directory descriptors of the two roots; changes the working directory.
void sabotage(Sabotage kind, int oracle_root, int mount_root);

}  // namespace layerfs::model
