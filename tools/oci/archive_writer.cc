#include "tools/oci/archive_writer.h"

#include "tools/oci/document.h"
#include "tools/oci/image_source.h"
#include "tools/oci/tar_header.h"

namespace layerfs::oci {
namespace {

constexpr mode_t kFileMode = 0644;

// The name and the size are only known when all is written, so the room for the header must
// not depend on them.
std::string blob_header(const Digest& digest, std::uint64_t size) {
  TarEntry entry;
  entry.path = blob_name(digest);
  entry.mode = kFileMode;
  entry.size = size;
  entry.size_in_pax = true;
  return encode_tar_header(entry);
}
constexpr std::size_t kBlobHeaderBytes = 3 * kTarBlockBytes;

std::string directory_header(const std::string& path) {
  TarEntry entry;
  entry.type = TarType::Directory;
  entry.path = path;
  entry.mode = 0755;
  return encode_tar_header(entry);
}

}  // namespace

Fallible<std::unique_ptr<ImageWriter>> ArchiveWriter::create(const ImageReference& reference) {
  std::unique_ptr<ArchiveWriter> writer(new ArchiveWriter(reference));
  LFS_ASSIGN(Target target, open_target(reference.path));
  writer->dir_ = std::move(target.dir);
  writer->name_ = std::move(target.name);
  LFS_ASSIGN(OutputFile file, OutputFile::create(writer->dir_.get(), reference.path));
  writer->file_.emplace(std::move(file));
  LFS_TRY(writer->file_->write(directory_header("blobs")));
  LFS_TRY(writer->file_->write(directory_header("blobs/sha256")));
  return std::unique_ptr<ImageWriter>(std::move(writer));
}

Fallible<ByteSink*> ArchiveWriter::begin_blob() {
  begun_ = file_->size();
  LFS_TRY(file_->write(std::string(kBlobHeaderBytes, '\0')));
  return static_cast<ByteSink*>(&*file_);
}

Fallible<void> ArchiveWriter::end_blob(const Digest& digest) {
  if (!blobs_.insert(digest).second) {
    return drop_blob();
  }
  const std::uint64_t size = file_->size() - begun_ - kBlobHeaderBytes;
  LFS_TRY(file_->write_at(blob_header(digest, size), begun_));
  return file_->write(std::string(tar_padding(size), '\0'));
}

Fallible<void> ArchiveWriter::drop_blob() { return file_->cut(begun_); }

Fallible<bool> ArchiveWriter::has_blob(const Digest& digest, std::uint64_t /*size*/) {
  return blobs_.contains(digest);
}

Fallible<void> ArchiveWriter::put_file(const std::string& name, const std::string& bytes) {
  TarEntry entry;
  entry.path = name;
  entry.mode = kFileMode;
  entry.size = bytes.size();
  LFS_TRY(file_->write(encode_tar_header(entry)));
  return file_->write(bytes + std::string(tar_padding(bytes.size()), '\0'));
}

Fallible<void> ArchiveWriter::finish(const Descriptor& manifest, const Descriptor& config,
                                     const std::vector<Descriptor>& layers) {
  const nlohmann::json index = {
      {"schemaVersion", 2},
      {"mediaType", kIndexType},
      {"manifests", nlohmann::json::array({index_entry(manifest, reference_)})}};
  LFS_TRY(put_file("index.json", print_document(index)));
  if (reference_.transport == Transport::DockerArchive) {
    LFS_ASSIGN(const std::string full, full_docker_name(reference_.name));
    // docker shows a name as it was given, its own registry left out.
    const std::string_view hub = "docker.io/";
    const std::string_view library = "docker.io/library/";
    std::string_view shown = full;
    shown.remove_prefix(shown.starts_with(library) ? library.size()
                        : shown.starts_with(hub)   ? hub.size()
                                                   : 0);
    nlohmann::json names = nlohmann::json::array();
    for (const Descriptor& layer : layers) {
      names.push_back(blob_name(layer.digest));
    }
    const nlohmann::json document = nlohmann::json::array(
        {nlohmann::json::object({{"Config", blob_name(config.digest)},
                                 {"RepoTags", nlohmann::json::array({std::string(shown)})},
                                 {"Layers", names}})});
    LFS_TRY(put_file("manifest.json", print_document(document)));
    const std::size_t cut = shown.rfind(':');
    nlohmann::json repositories;
    repositories[std::string(shown.substr(0, cut))][std::string(shown.substr(cut + 1))] =
        std::string(config.digest.hex());
    LFS_TRY(put_file("repositories", print_document(repositories)));
  }
  LFS_TRY(put_file("oci-layout", print_document({{"imageLayoutVersion", "1.0.0"}})));
  LFS_TRY(file_->write(std::string(kTarTrailerBytes, '\0')));
  return file_->publish(name_, OutputFile::Sync::Yes);
}

}  // namespace layerfs::oci
