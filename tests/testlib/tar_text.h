// Tars made from a few words, hostile ones too.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tools/oci/tar_header.h"

namespace layerfs::testing {

inline std::string padded(std::string data) {
  data.append(oci::tar_padding(data.size()), '\0');
  return data;
}

// Each word is one of
//   a/        a directory        a=text   a file          a->b   a symlink
//   a==b      a hard link        a|       a FIFO          a%c1.3 a device (c or b)
//   a#N=V     a file with the attribute N
inline std::string tar_entry(std::string_view word) {
  oci::TarEntry entry;
  entry.mode = 0644;
  entry.mtime = {1000000000, 0};
  const std::size_t arrow = word.find("->");
  const std::size_t cut = std::min(word.find_first_of("=|%#"), arrow);
  entry.path = std::string(word.substr(0, cut));
  const std::string_view rest = cut == std::string_view::npos ? "" : word.substr(cut);
  std::string data;
  if (rest.empty() && word.ends_with('/')) {
    entry.type = oci::TarType::Directory;
    entry.mode = 0755;
    entry.path.pop_back();
  } else if (rest.starts_with("==")) {
    entry.type = oci::TarType::HardLink;
    entry.link_target = rest.substr(2);
  } else if (rest.starts_with("->")) {
    entry.type = oci::TarType::Symlink;
    entry.link_target = rest.substr(2);
  } else if (rest.starts_with("|")) {
    entry.type = oci::TarType::Fifo;
  } else if (rest.starts_with("%")) {
    entry.type = rest[1] == 'c' ? oci::TarType::Character : oci::TarType::Block;
    const std::size_t dot = rest.find('.');
    entry.device_major = static_cast<unsigned>(std::stoul(std::string(rest.substr(2, dot - 2))));
    entry.device_minor = static_cast<unsigned>(std::stoul(std::string(rest.substr(dot + 1))));
  } else if (rest.starts_with("#")) {
    const std::size_t equals = rest.find('=');
    entry.xattrs.emplace_back(rest.substr(1, equals - 1), rest.substr(equals + 1));
  } else if (rest.starts_with("=")) {
    data = rest.substr(1);
    entry.size = data.size();
  }
  return oci::encode_tar_header(entry) + padded(data);
}

inline std::string tar_text(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) {
    out += tar_entry(word);
  }
  return out + std::string(oci::kTarTrailerBytes, '\0');
}

}  // namespace layerfs::testing
