#include "tools/oci/layer_store.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <thread>

#include "layers/identity.h"
#include "layers/merged_view.h"
#include "layers/mount_config.h"
#include "layers/sys/bulk.h"
#include "tools/oci/document.h"
#include "tools/oci/output_file.h"

namespace layerfs::oci {
namespace {

constexpr const char* kStoreFile = "store.json";
constexpr int kVersion = 1;

Failure cannot(const std::string& path, Errno error) {
  return {"store '" + path + "': " + describe(error)};
}

Fallible<std::vector<std::string>> names_in(int dir, const std::string& shown) {
  auto names = sys::names_in(dir);
  if (!names) {
    return cannot(shown, names.error());
  }
  std::sort(names->begin(), names->end());
  return std::move(*names);
}

Fallible<nlohmann::json> read_json(int dir, const std::string& name, const std::string& shown) {
  auto fd = sys::open_beneath(dir, name, O_RDONLY);
  if (!fd) {
    return Failure{"'" + shown + "/" + name + "': " + describe(fd.error())};
  }
  const auto st = sys::stat_at({fd->get()});
  if (!st) {
    return cannot(shown, st.error());
  }
  ExtentSource source({share(std::move(*fd)), 0, st->stx_size, shown + "/" + name});
  LFS_ASSIGN(const std::string text, read_all(source, kMostDocumentBytes, name));
  return parse_document(text, shown + "/" + name);
}

std::string image_file(const std::string& name) {
  return std::string(Digest::of(name).hex()) + ".json";
}

Fallible<void> wait_for_lock(int fd, bool exclusive, const std::string& path,
                             const LayerStore::Poll& poll) {
  for (;;) {
    const auto locked = exclusive ? sys::try_lock_exclusive(fd) : sys::try_lock_shared(fd);
    if (!locked) {
      return cannot(path, locked.error());
    }
    if (*locked) {
      return {};
    }
    LFS_TRY(poll());
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

}  // namespace

Fallible<void> LayerStore::create(const std::string& path) {
  std::string clean = path;
  while (clean.size() > 1 && clean.ends_with('/')) {
    clean.pop_back();
  }
  LFS_ASSIGN(const Target target, open_target(clean));
  // Layers hold set-id programs of images: nobody else's to run.
  const auto made = sys::mkdir_at({target.dir.get(), target.name.c_str()}, 0700);
  if (!made && made.error().value() != EEXIST) {
    return cannot(path, made.error());
  }
  auto root = sys::open_path(path, O_RDONLY | O_DIRECTORY);
  if (!root) {
    return cannot(path, root.error());
  }
  root_ = std::move(*root);
  return {};
}

Fallible<LayerStore> LayerStore::open(const std::string& path, Access access, const Poll& poll) {
  LayerStore store;
  store.path_ = path;
  auto root = sys::open_path(path, O_RDONLY | O_DIRECTORY);
  if (root) {
    store.root_ = std::move(*root);
  } else if (access == Access::Add && root.error().value() == ENOENT) {
    LFS_TRY(store.create(path));
  } else {
    return cannot(path, root.error());
  }
  const int dir = store.root_.get();
  auto mark = sys::try_stat_at({dir, kStoreFile});
  if (!mark) {
    return cannot(path, mark.error());
  }
  if (!*mark) {
    LFS_ASSIGN(const auto names, names_in(dir, path));
    // Somebody else may make it at the same time, and be ready in between.
    const bool ours = std::all_of(names.begin(), names.end(), [](const std::string& name) {
      return name == kStoreFile || name == "lock" || name == "layers" || name == "images" ||
             name == "tmp" || name.starts_with(".layerfs-");
    });
    if (access != Access::Add || !ours) {
      return Failure{"'" + path + "' is no store of layers" +
                     (access == Access::Add ? " and not empty; name another directory" : "")};
    }
  }
  for (const char* name : {"layers", "images", "tmp"}) {
    const auto made = access == Access::Add ? sys::mkdir_at({dir, name}, 0700) : Status();
    if (!made && made.error().value() != EEXIST) {
      return cannot(path, made.error());
    }
  }
  const int lock_flags = access == Access::Read ? O_RDONLY : O_RDWR | O_CREAT;
  auto lock = sys::open_at({dir, "lock"}, lock_flags, 0600);
  if (!lock) {
    return cannot(path, lock.error());
  }
  store.lock_ = std::move(*lock);
  LFS_TRY(wait_for_lock(store.lock_.get(), access == Access::Remove, path, poll));
  for (const auto& [name, fd] :
       {std::pair{"layers", &store.layers_}, std::pair{"images", &store.images_},
        std::pair{"tmp", &store.temp_}}) {
    auto opened = sys::open_at({dir, name}, O_RDONLY | O_DIRECTORY);
    if (!opened) {
      return cannot(path + "/" + name, opened.error());
    }
    *fd = std::move(*opened);
  }
  if (!*mark) {
    LFS_ASSIGN(OutputFile file, OutputFile::create(dir, path));
    LFS_TRY(file.write(print_document({{"layerfs_store", kVersion}})));
    LFS_TRY(file.publish(kStoreFile, OutputFile::Sync::Yes));
    return store;
  }
  LFS_ASSIGN(const nlohmann::json document, read_json(dir, kStoreFile, path));
  if (document.value("layerfs_store", nlohmann::json()) != kVersion) {
    return Failure{"store '" + path + "' is of another version of layerfs"};
  }
  return store;
}

Fallible<StoredLayer> LayerStore::read_layer(const std::string& key) const {
  LFS_ASSIGN(const nlohmann::json document,
             read_json(layers_.get(), key + "/layer.json", path_ + "/layers"));
  return read_document(key, [&]() -> Fallible<StoredLayer> {
    const auto digest = Digest::parse(document.at("diff_id").get<std::string>());
    if (!digest) {
      return Failure{"'" + path_ + "/layers/" + key + "/layer.json' is damaged; remove the layer"};
    }
    return StoredLayer{key,
                       path_ + "/layers/" + key + "/diff",
                       *digest,
                       document.at("bytes").get<std::uint64_t>(),
                       document.at("entries").get<std::uint64_t>(),
                       document.at("losses").get<std::uint64_t>(),
                       document.at("implied").get<bool>(),
                       {},
                       true};
  });
}

Fallible<std::optional<StoredLayer>> LayerStore::find(const std::string& key) const {
  const auto there = sys::try_stat_at({layers_.get(), key.c_str()});
  if (!there) {
    return cannot(path_, there.error());
  }
  if (!*there) {
    return std::optional<StoredLayer>();
  }
  LFS_ASSIGN(StoredLayer layer, read_layer(key));
  return std::optional<StoredLayer>(std::move(layer));
}

Fallible<std::vector<StoredLayer>> LayerStore::layers() const {
  LFS_ASSIGN(const auto names, names_in(layers_.get(), path_ + "/layers"));
  std::vector<StoredLayer> out;
  for (const std::string& name : names) {
    LFS_ASSIGN(StoredLayer layer, read_layer(name));
    out.push_back(std::move(layer));
  }
  return out;
}

Fallible<void> LayerStore::set_image(const StoredImage& image) {
  LFS_ASSIGN(OutputFile file, OutputFile::create(images_.get(), path_ + "/images"));
  LFS_TRY(
      file.write(print_document({{"name", bytes_to_json(image.name)}, {"layers", image.layers}})));
  return file.publish(image_file(image.name), OutputFile::Sync::Yes);
}

Fallible<std::vector<StoredImage>> LayerStore::images() const {
  LFS_ASSIGN(const auto names, names_in(images_.get(), path_ + "/images"));
  std::vector<StoredImage> out;
  for (const std::string& name : names) {
    if (!name.ends_with(".json")) {
      continue;  // being written
    }
    LFS_ASSIGN(const nlohmann::json document, read_json(images_.get(), name, path_ + "/images"));
    LFS_ASSIGN(StoredImage image, read_document(name, [&]() -> Fallible<StoredImage> {
                 return StoredImage{bytes_from_json(document.at("name")).value_or(name),
                                    document.at("layers").get<std::vector<std::string>>()};
               }));
    out.push_back(std::move(image));
  }
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return out;
}

Fallible<bool> LayerStore::remove_image(const std::string& name) {
  const auto removed =
      sys::unlink_at({images_.get(), image_file(name).c_str()}, sys::UnlinkKind::File);
  if (!removed && removed.error().value() != ENOENT) {
    return cannot(path_, removed.error());
  }
  return removed.ok();
}

Fallible<void> LayerStore::remove_layer(const std::string& key) {
  // Out of sight at once, so that no interruption leaves a part of a layer under its name.
  const std::string gone = temporary_name();
  const auto moved = sys::rename_at({layers_.get(), key.c_str()}, {temp_.get(), gone.c_str()});
  if (!moved) {
    return cannot(path_ + "/layers/" + key, moved.error());
  }
  const auto removed = sys::remove_tree({temp_.get(), gone.c_str()});
  return removed ? Fallible<void>() : cannot(path_ + "/tmp/" + gone, removed.error());
}

Fallible<void> LayerStore::clean_temporary() {
  LFS_ASSIGN(const auto names, names_in(temp_.get(), path_ + "/tmp"));
  for (const std::string& name : names) {
    if (const auto removed = sys::remove_tree({temp_.get(), name.c_str()}); !removed) {
      return cannot(path_ + "/tmp/" + name, removed.error());
    }
  }
  return {};
}

// One run of provide(): layers are taken in order by several threads.
class LayerStore::Unpacking {
 public:
  Unpacking(LayerStore& store, const std::vector<LayerRequest>& requests,
            const StoreUnpackOptions& options)
      : store_(store), requests_(requests), options_(options), done_(requests.size()) {}

  Fallible<std::vector<StoredLayer>> run() {
    LFS_TRY(probe());
    std::vector<std::thread> threads;
    const std::size_t count = std::min<std::size_t>(options_.threads, requests_.size());
    for (std::size_t i = 0; i < count; ++i) {
      threads.emplace_back([this] { work(); });
    }
    for (std::thread& thread : threads) {
      thread.join();
    }
    if (failure_) {
      return *failure_;
    }
    std::vector<StoredLayer> out;
    for (std::optional<StoredLayer>& layer : done_) {
      out.push_back(std::move(*layer));
    }
    return out;
  }

 private:
  using Below = std::optional<DirectoryAttributes>;

  // What this filesystem and process can hold.
  Fallible<void> probe();
  void work();
  Fallible<StoredLayer> provide(std::size_t index);
  Fallible<StoredLayer> unpack(std::size_t index, int temp);
  Fallible<Below> directory_below(std::size_t index, const std::string& path);
  Fallible<void> wait_for(std::size_t count);
  std::string key_of(const Digest& diff_id) const;
  // With the layers below that it depends on.
  std::string key_on(std::size_t index, const Digest& diff_id) const;
  Fallible<void> progress(std::uint64_t bytes) {
    {
      const std::lock_guard lock(mutex_);
      if (failure_) {
        return *failure_;
      }
    }
    return options_.progress(bytes);
  }

  LayerStore& store_;
  const std::vector<LayerRequest>& requests_;
  const StoreUnpackOptions& options_;
  ApplyOptions apply_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t next_ = 0;
  std::vector<std::optional<StoredLayer>> done_;
  std::optional<Failure> failure_;
};

Fallible<void> LayerStore::Unpacking::probe() {
  const std::string name = temporary_name();
  const sys::At at{store_.temp_.get(), name.c_str()};
  const auto made = sys::mkdir_at(at, 0700);
  auto dir = made ? sys::open_at(at, O_RDONLY | O_DIRECTORY) : Result<UniqueFd>(made.error());
  if (!dir) {
    return cannot(store_.path_, dir.error());
  }
  const auto marks = probe_marks(dir->get(), options_.marks);
  // Any other owner than our own: root in a user namespace has those that it maps.
  const bool may_own = sys::chown_at({dir->get()}, 1, 1).ok();
  ignore(sys::remove_tree(at), "gc finds it");
  if (!marks) {
    return Failure{"store '" + store_.path_ + "' cannot hold the wanted marks: " +
                   describe(marks.error()) + "; try another --whiteout"};
  }
  apply_.marks = *marks;
  apply_.override_stat = options_.override_stat.value_or(!may_own);
  apply_.limits = options_.limits;
  if (apply_.override_stat && !apply_.marks.has_xattrs()) {
    return Failure{"store '" + store_.path_ +
                   "' is on a filesystem without user attributes, which owners would need; use "
                   "another one, or run as root"};
  }
  return {};
}

std::string LayerStore::Unpacking::key_of(const Digest& diff_id) const {
  return std::string(diff_id.hex()) +
         (apply_.marks.form() == WhiteoutForm::Overlay ? "-overlay" : "-oci") +
         (apply_.override_stat ? "-override" : "");
}

std::string LayerStore::Unpacking::key_on(std::size_t index, const Digest& diff_id) const {
  std::string below;
  const std::lock_guard lock(mutex_);
  for (std::size_t i = 0; i < index; ++i) {
    below += (done_[i] ? done_[i]->diff_id : *requests_[i].diff_id).text() + " ";
  }
  constexpr std::size_t kDigits = 32;
  return key_of(diff_id) + "-on-" + std::string(Digest::of(below).hex().substr(0, kDigits));
}

void LayerStore::Unpacking::work() {
  for (;;) {
    std::size_t index = 0;
    {
      const std::lock_guard lock(mutex_);
      if (failure_ || next_ == requests_.size()) {
        return;
      }
      index = next_++;
    }
    auto layer = provide(index);
    const std::lock_guard lock(mutex_);
    if (layer) {
      done_[index] = std::move(*layer);
    } else if (!failure_) {
      failure_ = layer.error();
    }
    changed_.notify_all();
  }
}

// Those that took an earlier layer never wait for a later one, so this ends.
Fallible<void> LayerStore::Unpacking::wait_for(std::size_t count) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] {
    return failure_ ||
           std::all_of(done_.begin(), done_.begin() + static_cast<std::ptrdiff_t>(count),
                       [](const auto& layer) { return layer.has_value(); });
  });
  return failure_ ? Fallible<void>(*failure_) : Fallible<void>();
}

Fallible<StoredLayer> LayerStore::Unpacking::provide(std::size_t index) {
  const LayerRequest& request = requests_[index];
  UniqueFd held;
  if (request.diff_id) {
    // Whoever unpacks the same layer meanwhile is waited for, and then it is there.
    const std::string name = "lock-" + std::string(request.diff_id->hex());
    auto fd = sys::open_at({store_.temp_.get(), name.c_str()}, O_RDWR | O_CREAT, 0600);
    if (!fd) {
      return cannot(store_.path_, fd.error());
    }
    LFS_TRY(wait_for_lock(fd->get(), true, store_.path_, [this] { return progress(0); }));
    held = std::move(*fd);
    const bool knows_below =
        std::all_of(requests_.begin(), requests_.begin() + static_cast<std::ptrdiff_t>(index),
                    [](const LayerRequest& below) { return below.diff_id.has_value(); });
    std::optional<StoredLayer> there;
    if (index > 0 && knows_below) {
      LFS_ASSIGN(there, store_.find(key_on(index, *request.diff_id)));
    }
    if (!there) {
      LFS_ASSIGN(there, store_.find(key_of(*request.diff_id)));
      // One that was made with nothing below.
      if (there && there->has_implied && index > 0) {
        there.reset();
      }
    }
    if (there && options_.strict && there->loss_count > 0) {
      return Failure{"layer " + there->key + " in the store lacks " +
                     std::to_string(there->loss_count) + " things that it could not hold"};
    }
    if (there) {
      return std::move(*there);
    }
  }
  const std::string temp = temporary_name();
  const sys::At at{store_.temp_.get(), temp.c_str()};
  const auto made = sys::mkdir_at(at, 0700);
  auto dir = made ? sys::open_at(at, O_RDONLY | O_DIRECTORY) : Result<UniqueFd>(made.error());
  auto layer =
      dir ? unpack(index, dir->get()) : Fallible<StoredLayer>(cannot(store_.path_, dir.error()));
  if (layer) {
    const auto moved =
        sys::rename_at(at, {store_.layers_.get(), layer->key.c_str()}, RENAME_NOREPLACE);
    if (!moved && moved.error().value() != EEXIST) {
      layer = cannot(store_.path_, moved.error());
    } else if (moved) {
      return layer;
    } else {
      layer->was_there = true;
    }
  }
  ignore(sys::remove_tree(at), "gc finds it");
  return layer;
}

Fallible<StoredLayer> LayerStore::Unpacking::unpack(std::size_t index, int temp) {
  const LayerRequest& request = requests_[index];
  const auto made = sys::mkdir_at({temp, "diff"}, 0700);
  const auto root =
      made ? sys::open_at({temp, "diff"}, O_RDONLY | O_DIRECTORY) : Result<UniqueFd>(made.error());
  if (!root) {
    return cannot(store_.path_, root.error());
  }
  LFS_ASSIGN(auto blob, request.open());
  ApplyOptions apply = apply_;
  if (index > 0) {
    apply.directory_below = [this, index](const std::string& path) {
      return directory_below(index, path);
    };
  }
  LFS_ASSIGN(UnpackedLayer unpacked,
             unpack_layer({std::move(blob), request.shown, request.diff_id,
                           [this](std::uint64_t bytes) { return progress(bytes); }},
                          root->get(), std::move(apply)));
  if (options_.strict && !unpacked.losses.empty()) {
    LFS_ASSIGN(const Loss loss, unpacked.losses.first());
    return Failure{request.shown + ": '" + loss.path + "': " + loss.what +
                   "; the store cannot hold it"};
  }
  const bool depends = unpacked.has_implied && index > 0;
  const std::string key = depends ? key_on(index, unpacked.diff_id) : key_of(unpacked.diff_id);
  const nlohmann::json document = {{"diff_id", unpacked.diff_id.text()},
                                   {"bytes", unpacked.bytes},
                                   {"entries", unpacked.entries},
                                   {"losses", unpacked.losses.size()},
                                   {"implied", unpacked.has_implied}};
  LFS_ASSIGN(OutputFile file, OutputFile::create(temp, store_.path_));
  LFS_TRY(file.write(print_document(document)));
  LFS_TRY(file.publish("layer.json", OutputFile::Sync::No));
  if (options_.sync) {
    if (const auto synced = sys::syncfs_fd(temp); !synced) {
      return cannot(store_.path_, synced.error());
    }
  }
  return StoredLayer{key,
                     store_.path_ + "/layers/" + key + "/diff",
                     unpacked.diff_id,
                     unpacked.bytes,
                     unpacked.entries,
                     unpacked.losses.size(),
                     unpacked.has_implied,
                     std::move(unpacked.losses),
                     false};
}

Fallible<LayerStore::Unpacking::Below> LayerStore::Unpacking::directory_below(
    std::size_t index, const std::string& path) {
  LFS_TRY(wait_for(index));
  StackOptions options;
  {
    const std::lock_guard lock(mutex_);
    for (std::size_t i = index; i-- > 0;) {
      options.lowers.push_back(done_[i]->path);
    }
  }
  LFS_ASSIGN(const LayerStack stack, LayerStack::open(options));
  const auto failed = [&](Errno error) {
    return Failure{"'" + path + "' in the layers below: " + describe(error)};
  };
  const auto view = MergedView::open(stack, {});
  if (!view) {
    return failed(view.error());
  }
  ViewDirectory dir = view->directory(view->root());
  for (std::size_t at = 0; at < path.size();) {
    const std::size_t end = std::min(path.find('/', at), path.size());
    const auto found = view->find(dir, path.substr(at, end - at));
    if (!found) {
      return failed(found.error());
    }
    if (!*found || !(*found)->is_directory()) {
      return Below();
    }
    if (end < path.size()) {
      dir = view->directory(**found);
      at = end + 1;
      continue;
    }
    ViewObject object(*view, dir, **found);
    const auto xattrs = object.xattrs();
    if (!xattrs) {
      return failed(xattrs.error());
    }
    const Identity& identity = (*found)->identity;
    const struct statx_timestamp& time = (*found)->st.stx_mtime;
    return Below(DirectoryAttributes{identity.uid,
                                     identity.gid,
                                     identity.mode & kPermissions,
                                     {time.tv_sec, static_cast<long>(time.tv_nsec)},
                                     **xattrs});
  }
  return Below();
}

Fallible<std::vector<StoredLayer>> LayerStore::provide(const std::vector<LayerRequest>& requests,
                                                       const StoreUnpackOptions& options) {
  return Unpacking(*this, requests, options).run();
}

}  // namespace layerfs::oci
