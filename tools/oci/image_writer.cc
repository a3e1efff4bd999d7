#include "tools/oci/image_writer.h"

#include "tools/oci/archive_writer.h"
#include "tools/oci/layout_writer.h"

namespace layerfs::oci {

Fallible<std::unique_ptr<ImageWriter>> ImageWriter::create(const ImageReference& reference) {
  if (reference.transport == Transport::DockerArchive) {
    LFS_TRY(full_docker_name(reference.name));
  } else {
    LFS_TRY(check_tag(reference.name));
  }
  return reference.transport == Transport::Oci ? LayoutWriter::create(reference)
                                               : ArchiveWriter::create(reference);
}

Fallible<Descriptor> ImageWriter::write_blob(const std::string& media_type,
                                             const std::string& bytes) {
  Descriptor descriptor{media_type, Digest::of(bytes), bytes.size()};
  LFS_ASSIGN(ByteSink* const sink, begin_blob());
  LFS_TRY(sink->write(bytes));
  LFS_TRY(end_blob(descriptor.digest));
  return descriptor;
}

nlohmann::json index_entry(const Descriptor& manifest, const ImageReference& reference) {
  nlohmann::json entry = to_json(manifest);
  const auto full = full_docker_name(reference.name);
  const bool is_docker = reference.transport == Transport::DockerArchive && full;
  entry["annotations"][kRefNameKey] =
      is_docker ? full->substr(full->rfind(':') + 1) : reference.name;
  // A tag alone is no name that containerd could use.
  if (full && (is_docker || reference.name.find_first_of(":/") != std::string::npos)) {
    entry["annotations"][kContainerdNameKey] = *full;
  }
  return entry;
}

}  // namespace layerfs::oci
