#include "tools/oci/loss_list.h"

namespace layerfs::oci {

Fallible<void> LossList::add(std::string_view path, std::string_view what) {
  const Sizes sizes{static_cast<std::uint32_t>(path.size()),
                    static_cast<std::uint32_t>(what.size())};
  LFS_TRY(log_.append({reinterpret_cast<const char*>(&sizes), sizeof sizes}));
  LFS_TRY(log_.append(path));
  LFS_TRY(log_.append(what));
  ++count_;
  return {};
}

Fallible<Loss> LossList::read(std::uint64_t& at) const {
  Sizes sizes{};
  LFS_TRY(log_.read(at, reinterpret_cast<char*>(&sizes), sizeof sizes));
  at += sizeof sizes;
  Loss loss{std::string(sizes.path, '\0'), std::string(sizes.what, '\0')};
  for (std::string* text : {&loss.path, &loss.what}) {
    LFS_TRY(log_.read(at, text->data(), text->size()));
    at += text->size();
  }
  return loss;
}

Fallible<void> LossList::for_each(const std::function<Fallible<void>(const Loss&)>& visit) const {
  std::uint64_t at = 0;
  for (std::uint64_t i = 0; i < count_; ++i) {
    LFS_ASSIGN(const Loss loss, read(at));
    LFS_TRY(visit(loss));
  }
  return {};
}

Fallible<Loss> LossList::first() const {
  std::uint64_t at = 0;
  return read(at);
}

}  // namespace layerfs::oci
