#include "tools/oci/layout_writer.h"

#include <fcntl.h>

#include "layers/sys/bulk.h"
#include "tools/oci/byte_source.h"
#include "tools/oci/document.h"
#include "tools/oci/image_files.h"
#include "tools/oci/image_source.h"

namespace layerfs::oci {
namespace {

constexpr const char* kBlobs = "blobs/sha256";

Failure cannot(const std::string& what, Errno error) {
  return {"image layout " + what + ": " + describe(error)};
}

}  // namespace

Fallible<std::unique_ptr<ImageWriter>> LayoutWriter::create(const ImageReference& reference) {
  std::unique_ptr<LayoutWriter> writer(new LayoutWriter(reference));
  auto dir = sys::open_path(reference.path, O_RDONLY | O_DIRECTORY);
  if (!dir && dir.error().value() != ENOENT) {
    return cannot("'" + reference.path + "'", dir.error());
  }
  LFS_TRY(dir ? writer->open_existing(std::move(*dir)) : writer->make_new());
  return std::unique_ptr<ImageWriter>(std::move(writer));
}

LayoutWriter::~LayoutWriter() {
  blob_.reset();
  written_.clear();
  if (!temp_name_.empty()) {
    ignore(sys::remove_tree({parent_.get(), temp_name_.c_str()}), "there is nobody to tell");
    return;
  }
  if (made_folders_) {
    // Others may have begun to fill the directory too: only what is ours goes.
    for (const std::string& name : published_) {
      ignore(sys::unlink_at({blobs_.get(), name.c_str()}, sys::UnlinkKind::File),
             "there is nobody to tell");
    }
    for (const char* dir : {kBlobs, "blobs"}) {
      ignore(sys::unlink_at({root_.get(), dir}, sys::UnlinkKind::Directory), "it is not empty");
    }
  }
}

Fallible<void> LayoutWriter::open_existing(UniqueFd dir) {
  root_ = std::move(dir);
  auto layout = sys::open_beneath(root_.get(), "oci-layout", O_RDONLY);
  if (!layout && layout.error().value() == ENOENT) {
    sys::DirReader entries(root_.get());
    const auto first = entries.next();
    if (!first || *first) {
      return Failure{"'" + reference_.path +
                     "' is neither an image layout nor empty; name another directory"};
    }
    return fill_new();
  }
  if (!layout) {
    return cannot("'" + reference_.path + "'", layout.error());
  }
  auto blobs = sys::open_beneath(root_.get(), kBlobs, O_RDONLY | O_DIRECTORY);
  if (!blobs) {
    return cannot("'" + reference_.path + "/" + kBlobs + "'", blobs.error());
  }
  blobs_ = std::move(*blobs);
  return {};
}

Fallible<void> LayoutWriter::make_new() {
  std::string path = reference_.path;
  while (path.size() > 1 && path.ends_with('/')) {
    path.pop_back();
  }
  LFS_ASSIGN(Target target, open_target(path));
  parent_ = std::move(target.dir);
  name_ = std::move(target.name);
  std::string temp = temporary_name();
  if (const auto made = sys::mkdir_at({parent_.get(), temp.c_str()}, 0777); !made) {
    return cannot("'" + reference_.path + "'", made.error());
  }
  temp_name_ = std::move(temp);
  auto root = sys::open_at({parent_.get(), temp_name_.c_str()}, O_RDONLY | O_DIRECTORY);
  if (!root) {
    return cannot("'" + reference_.path + "'", root.error());
  }
  root_ = std::move(*root);
  return fill_new();
}

Fallible<void> LayoutWriter::fill_new() {
  for (const auto& [dir, name] : {std::pair{"", "blobs"}, std::pair{"blobs", "sha256"}}) {
    auto parent = sys::open_beneath(root_.get(), dir, O_RDONLY | O_DIRECTORY);
    Status made = parent ? sys::mkdir_at({parent->get(), name}, 0777) : Status(parent.error());
    if (!made && made.error().value() != EEXIST) {
      return cannot("'" + reference_.path + "'", made.error());
    }
    made_folders_ = made_folders_ || made;
  }
  auto blobs = sys::open_beneath(root_.get(), kBlobs, O_RDONLY | O_DIRECTORY);
  if (!blobs) {
    return cannot("'" + reference_.path + "'", blobs.error());
  }
  blobs_ = std::move(*blobs);
  return {};
}

Fallible<ByteSink*> LayoutWriter::begin_blob() {
  LFS_ASSIGN(OutputFile file, OutputFile::create(blobs_.get(), reference_.path + "/" + kBlobs));
  blob_.emplace(std::move(file));
  return static_cast<ByteSink*>(&*blob_);
}

Fallible<void> LayoutWriter::end_blob(const Digest& digest) {
  written_.emplace(digest, std::move(*blob_));
  blob_.reset();
  return {};
}

Fallible<void> LayoutWriter::drop_blob() {
  blob_.reset();
  return {};
}

Fallible<bool> LayoutWriter::has_blob(const Digest& digest, std::uint64_t size) {
  if (written_.contains(digest)) {
    return true;
  }
  LFS_ASSIGN(const auto files,
             open_directory_files("/proc/self/fd/" + std::to_string(root_.get())));
  LFS_ASSIGN(auto extent, files->find(blob_name(digest)));
  if (!extent || extent->size != size) {
    return false;
  }
  ExtentSource source(std::move(*extent));
  Sha256 hash;
  std::string buffer(1 << 20, '\0');
  for (;;) {
    LFS_ASSIGN(const std::size_t have, source.read(buffer.data(), buffer.size()));
    if (have == 0) {
      return hash.finish() == digest;
    }
    hash.add({buffer.data(), have});
  }
}

Fallible<nlohmann::json> LayoutWriter::read_index() const {
  LFS_ASSIGN(const auto files,
             open_directory_files("/proc/self/fd/" + std::to_string(root_.get())));
  LFS_ASSIGN(const auto extent, files->find("index.json"));
  if (!extent) {
    return nlohmann::json{
        {"schemaVersion", 2}, {"mediaType", kIndexType}, {"manifests", nlohmann::json::array()}};
  }
  LFS_ASSIGN(const std::string text, files->read_small("index.json"));
  return parse_document(text, reference_.path + "/index.json");
}

Fallible<void> LayoutWriter::put_document(int dir, const char* name,
                                          const nlohmann::json& document) {
  LFS_ASSIGN(OutputFile file, OutputFile::create(dir, reference_.path + "/" + name));
  LFS_TRY(file.write(print_document(document)));
  return file.publish(name, OutputFile::Sync::Yes);
}

Fallible<void> LayoutWriter::publish_blobs() {
  for (auto& [digest, file] : written_) {
    std::string name(digest.hex());
    const auto there = sys::try_stat_at({blobs_.get(), name.c_str()});
    LFS_TRY(file.publish(name, OutputFile::Sync::Yes));
    if (there && !*there) {
      published_.push_back(std::move(name));
    }
  }
  written_.clear();
  return {};
}

Fallible<void> LayoutWriter::add_to_index(const Descriptor& manifest) {
  // Others that write images into this layout wait; so no index loses an entry.
  if (const auto locked = sys::lock_exclusive(root_.get()); !locked) {
    return cannot("'" + reference_.path + "': cannot lock it", locked.error());
  }
  LFS_ASSIGN(nlohmann::json index, read_index());
  LFS_TRY(read_document(reference_.path + "/index.json", [&]() -> Fallible<void> {
    nlohmann::json others = nlohmann::json::array();
    for (nlohmann::json& item : index.at("manifests")) {
      const auto annotations = item.value("annotations", nlohmann::json::object());
      if (annotations.value(kRefNameKey, std::string()) != reference_.name) {
        others.push_back(std::move(item));
      }
    }
    others.push_back(index_entry(manifest, reference_));
    index["manifests"] = std::move(others);
    return {};
  }));
  LFS_TRY(put_document(root_.get(), "oci-layout", {{"imageLayoutVersion", "1.0.0"}}));
  LFS_TRY(put_document(root_.get(), "index.json", index));
  made_folders_ = false;
  published_.clear();
  return {};
}

Fallible<void> LayoutWriter::join_other() {
  auto other = sys::open_at({parent_.get(), name_.c_str()}, O_RDONLY | O_DIRECTORY);
  if (!other) {
    return cannot("'" + reference_.path + "'", other.error());
  }
  const UniqueFd blobs = std::move(blobs_);
  LFS_TRY(open_existing(std::move(*other)));
  const auto names = sys::names_in(blobs.get());
  if (!names) {
    return cannot("'" + reference_.path + "'", names.error());
  }
  for (const std::string& name : *names) {
    const auto moved = sys::rename_at({blobs.get(), name.c_str()}, {blobs_.get(), name.c_str()});
    if (!moved) {
      return cannot("'" + reference_.path + "/" + kBlobs + "/" + name + "'", moved.error());
    }
  }
  const auto synced = sys::fsync_fd(blobs_.get());
  return synced ? Fallible<void>() : cannot("'" + reference_.path + "'", synced.error());
}

Fallible<void> LayoutWriter::finish(const Descriptor& manifest, const Descriptor& /*config*/,
                                    const std::vector<Descriptor>& /*layers*/) {
  LFS_TRY(publish_blobs());
  LFS_TRY(add_to_index(manifest));
  if (temp_name_.empty()) {
    return {};
  }
  const auto moved = sys::rename_at({parent_.get(), temp_name_.c_str()},
                                    {parent_.get(), name_.c_str()}, RENAME_NOREPLACE);
  if (!moved && moved.error().value() == EEXIST) {
    // What is left of ours goes with the destructor.
    LFS_TRY(join_other());
    return add_to_index(manifest);
  }
  if (!moved) {
    return cannot("'" + reference_.path + "'", moved.error());
  }
  temp_name_.clear();
  return {};
}

}  // namespace layerfs::oci
