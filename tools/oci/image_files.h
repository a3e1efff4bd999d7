// The files of an image by name, whether they lie in a directory or in a tar.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "tools/oci/byte_source.h"

namespace layerfs::oci {

class ImageFiles {
 public:
  ImageFiles() = default;
  ImageFiles(const ImageFiles&) = delete;
  ImageFiles& operator=(const ImageFiles&) = delete;
  virtual ~ImageFiles() = default;

  // nullopt: there is no such regular file.
  virtual Fallible<std::optional<Extent>> find(const std::string& name) const = 0;
  virtual const std::string& shown() const = 0;

  // The whole of a small one, which must be there.
  Fallible<std::string> read_small(const std::string& name) const;
};

// Symlinks in it are not followed.
Fallible<std::unique_ptr<ImageFiles>> open_directory_files(const std::string& path);
// An uncompressed tar. Its symlinks are followed to other entries of the tar: docker writes
// them for layers that occur twice.
Fallible<std::unique_ptr<ImageFiles>> open_archive_files(const std::string& path);

}  // namespace layerfs::oci
