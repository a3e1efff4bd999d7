// The times of the directory that a convert is changing, in a file of the layer
// (kConvertJournal): a convert that is killed cannot give them back, the next one does.
#pragma once

#include <sys/stat.h>

#include <string>

#include "layers/sys/unique_fd.h"
#include "tools/oci/byte_sink.h"

namespace layerfs::oci {

class ConvertJournal {
 public:
  // Of a layer that nobody else converts; `root` is readable and stays open. Gives back what
  // one that was killed could not, then notes the times of the root.
  static Fallible<ConvertJournal> begin(int root, const std::string& shown);
  ConvertJournal(ConvertJournal&& other) noexcept;
  ConvertJournal(const ConvertJournal&) = delete;
  ConvertJournal& operator=(const ConvertJournal&) = delete;
  ConvertJournal& operator=(ConvertJournal&&) = delete;
  // Gives back the times of the directory noted last and of the root, and removes the file.
  ~ConvertJournal();

  // Before the directory at `path` in the layer is changed.
  Fallible<void> note(int dir, const std::string& path);

 private:
  ConvertJournal(int root, std::string shown) : root_(root), shown_(std::move(shown)) {}

  int root_;
  std::string shown_;
  UniqueFd file_;
};

}  // namespace layerfs::oci
