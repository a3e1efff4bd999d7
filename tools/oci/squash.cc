#include "tools/oci/squash.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <thread>

#include "layers/change_walk.h"
#include "layers/identity.h"
#include "layers/path_text.h"
#include "layers/shown_xattrs.h"
#include "tools/oci/block_pool.h"
#include "tools/oci/channel.h"
#include "tools/oci/output_file.h"

namespace layerfs::oci {
namespace {

constexpr std::size_t kBlockBytes = 256 * 1024;
constexpr std::size_t kQueued = 8;

// From a thread that writes a tar to one that reads it.
class TarPipe : public BlockSink, public ByteSource {
 public:
  TarPipe() : pool_(kBlockBytes), blocks_(kQueued) {}

  Fallible<Space> space() override {
    if (!filling_) {
      filling_ = pool_.take();
    }
    return Space{filling_->data.get() + filling_->used, filling_->capacity - filling_->used};
  }
  Fallible<void> filled(std::size_t size) override {
    filling_->used += size;
    return filling_->used == filling_->capacity ? send() : Fallible<void>();
  }
  Fallible<void> send() {
    if (filling_ && !blocks_.push(std::move(filling_))) {
      reader_stopped_ = true;
      return Failure{"the reader of the tar has stopped"};
    }
    filling_.reset();
    return {};
  }
  void close() { blocks_.close(); }
  // A failure of the writer that is only the consequence of one of the reader.
  bool reader_stopped() const { return reader_stopped_; }
  void abandon() { blocks_.abandon(); }

  Fallible<std::size_t> read(char* data, std::size_t size) override {
    while (!reading_ || used_ == reading_->used) {
      auto next = blocks_.pop();
      if (!next) {
        return std::size_t{0};
      }
      reading_ = std::move(*next);
      used_ = 0;
    }
    const std::size_t have = std::min(size, reading_->used - used_);
    std::memcpy(data, reading_->data.get() + used_, have);
    used_ += have;
    return have;
  }

 private:
  BlockPool pool_;
  Channel<SharedBlock> blocks_;
  std::shared_ptr<Block> filling_;
  SharedBlock reading_;
  std::size_t used_ = 0;
  bool reader_stopped_ = false;
};

Failure unreadable(const std::string& path, Errno error) {
  return {"'/" + path + "': " + describe(error)};
}

// The directory keeps its times.
Status set_opaque(const MarkWriter& marks, sys::At at) {
  LFS_ASSIGN(const UniqueFd fd, sys::open_at(at, O_PATH | O_DIRECTORY));
  LFS_ASSIGN(const auto times, sys::KeptTimes::of(fd.get()));
  LFS_TRY(marks.set_opaque({fd.get()}));
  return times.restore();
}

// What hides layers further down, which the tar of the merged tree does not say. The
// directories have their times already.
class MarkCopier {
 public:
  MarkCopier(const MergedView& view, int out, const MarkWriter& marks)
      : view_(view), out_(out), marks_(marks) {}

  Fallible<void> copy(const ViewEntry& entry, const std::string& path) {
    ViewDirectory dir = view_.directory(entry);
    LFS_ASSIGN(const auto names,
               view_.names(dir, view_.first(), view_.stack().size(), space_, path));
    auto out = sys::open_beneath(out_, path, O_PATH | O_DIRECTORY);
    const auto times = out ? sys::KeptTimes::of(out->get()) : Result<sys::KeptTimes>(out.error());
    if (!times) {
      return unreadable(path, times.error());
    }
    LFS_TRY(copy_opaque(dir, out->get(), path));
    LFS_TRY(for_each(
        *names, [&](const MergedName& name) { return hide_below(dir, name, out->get(), path); }));
    if (const auto restored = times->restore(); !restored) {
      return unreadable(path, restored.error());
    }
    out->reset();
    names->rewind();
    return for_each(*names, [&](const MergedName& name) -> Fallible<void> {
      if (!is_directory(name)) {
        return {};
      }
      const auto below = view_.entry(dir, name.name, name.layer, name.exists_below);
      const std::string its_path = join(path, name.name);
      if (!below) {
        return unreadable(its_path, below.error());
      }
      dir.close();
      names->rest();
      return copy(*below, its_path);
    });
  }

 private:
  // Of the sources only the last can be.
  Fallible<void> copy_opaque(ViewDirectory& dir, int out, const std::string& path) {
    const auto last = dir.open(dir.sources().back().layer);
    const auto marks = last ? read_dir_marks({*last}) : Result<DirMarks>(last.error());
    if (!marks) {
      return unreadable(path, marks.error());
    }
    const auto set = marks->opaque == Opaque::Yes ? marks_.set_opaque({out}) : Status();
    return set ? Fallible<void>() : unreadable(path, set.error());
  }

  static bool is_directory(const MergedName& name) { return name.is_shown && name.type == DT_DIR; }

  template <class F>
  static Fallible<void> for_each(MergedNames& names, F f) {
    for (;;) {
      LFS_ASSIGN(const auto name, names.next());
      if (!name) {
        return {};
      }
      LFS_TRY(f(*name));
    }
  }

  Fallible<void> hide_below(ViewDirectory& dir, const MergedName& listed, int out,
                            const std::string& path) {
    const std::string name(listed.name);
    Status done;
    if (listed.has_whiteout && !listed.is_shown) {
      done = marks_.make_whiteout(out, name);
    } else if (listed.has_whiteout && is_directory(listed)) {
      done = set_opaque(marks_, {out, name.c_str()});
    }
    if (!done) {
      return unreadable(join(path, name), done.error());
    }
    if (!is_directory(listed) || dir.sources().size() == 1) {
      return {};
    }
    const auto entry = view_.entry(dir, name, listed.layer, listed.exists_below);
    return entry ? hide_what_a_file_hides(dir, *entry, out, path)
                 : unreadable(join(path, name), entry.error());
  }

  // A file under the directory, in a layer between, ends the merging too.
  Fallible<void> hide_what_a_file_hides(ViewDirectory& dir, const ViewEntry& entry, int out,
                                        const std::string& path) {
    for (const DirSource& source : dir.sources()) {
      if (entry.sources.empty() || source.layer <= entry.sources.back().layer) {
        continue;
      }
      const auto fd = dir.open(source.layer);
      const auto st = fd ? sys::try_stat_at({*fd, entry.name.c_str()})
                         : Result<std::optional<struct statx>>(fd.error());
      if (!st) {
        return unreadable(join(path, entry.name), st.error());
      }
      if (*st) {
        const auto set =
            S_ISDIR((*st)->stx_mode) ? Status() : set_opaque(marks_, {out, entry.name.c_str()});
        return set ? Fallible<void>() : unreadable(join(path, entry.name), set.error());
      }
    }
    return {};
  }

  const MergedView& view_;
  int out_;
  const MarkWriter& marks_;
  SortSpace space_;
};

Fallible<Squashed> fill(const MergedView& nothing, const MergedView& view, int out,
                        ApplyOptions apply, const SquashOptions& options) {
  TarPipe pipe;
  LayerWriter writer(pipe, options.writer);
  Fallible<void> written;
  std::thread thread([&] {
    written = walk_changes(nothing, view, LayerWriter::walk_options(false),
                           [&](const Change& change) { return writer.add(change); });
    if (written) {
      written = writer.finish();
    }
    if (written) {
      written = pipe.send();
    }
    pipe.close();
  });
  const MarkWriter marks = apply.marks;
  LayerApplier applier(out, std::move(apply));
  const auto applied = [&]() -> Fallible<void> {
    TarReader reader(pipe);
    for (;;) {
      LFS_ASSIGN(const auto item, reader.next());
      if (!item) {
        return {};
      }
      LFS_TRY(applier.add(*item, reader));
    }
  }();
  pipe.abandon();
  thread.join();
  if (!written && !pipe.reader_stopped()) {
    return written.error();
  }
  if (!applied) {
    return applied.error();
  }
  if (!view.is_empty()) {
    LFS_TRY(MarkCopier(view, out, marks).copy(view.root(), ""));
    const ViewEntry& root = view.root();
    ViewDirectory dir = view.directory(root);
    const auto top = dir.open(root.sources.front().layer);
    if (!top) {
      return unreadable("", top.error());
    }
    const OverrideForm form = view.stack().at(root.sources.front().layer).override_form;
    const auto names = list_shown_xattrs({*top}, form);
    DirectoryAttributes attributes{
        root.identity.uid,
        root.identity.gid,
        root.identity.mode & kPermissions,
        {root.st.stx_mtime.tv_sec, static_cast<long>(root.st.stx_mtime.tv_nsec)},
        {}};
    if (!names) {
      return unreadable("", names.error());
    }
    for (const std::string& name : *names) {
      if (is_image_xattr(name)) {
        const auto value = get_shown_xattr({*top}, form, name);
        if (!value) {
          return unreadable("", value.error());
        }
        attributes.xattrs.emplace_back(name, value->value_or(""));
      }
    }
    applier.set_root(attributes);
  }
  LFS_TRY(applier.finish());
  Squashed done{applier.entries(), {}};
  const auto add = [&done](const Loss& loss) -> Fallible<void> {
    // The root is as it was: it got its attributes above.
    return loss.path.empty() ? Fallible<void>() : done.losses.add(loss.path, loss.what);
  };
  LFS_TRY(writer.take_losses().for_each(add));
  LFS_TRY(applier.take_losses().for_each(add));
  return done;
}

}  // namespace

Fallible<Squashed> squash_layers(const MergedView& view, const std::string& out,
                                 const SquashOptions& options) {
  LFS_ASSIGN(const Target target, open_target(out));
  const std::string temp = temporary_name();
  const sys::At at{target.dir.get(), temp.c_str()};
  const auto made = sys::mkdir_at(at, 0700);
  const auto root =
      made ? sys::open_at(at, O_RDONLY | O_DIRECTORY) : Result<UniqueFd>(made.error());
  if (!root) {
    return Failure{"'" + out + "': " + describe(root.error())};
  }
  auto work = [&]() -> Fallible<Squashed> {
    const auto marks = probe_marks(root->get(), options.marks);
    if (!marks) {
      return Failure{"'" + out + "' cannot hold the wanted marks: " + describe(marks.error())};
    }
    const bool may_own = sys::chown_at({root->get()}, 1, 1).ok();
    ApplyOptions apply;
    apply.marks = *marks;
    apply.override_stat = options.override_stat.value_or(!may_own);
    apply.limits = {UINT64_MAX, UINT64_MAX};
    auto nothing = MergedView::open(view.stack(), {view.stack().size(), -1});
    if (!nothing) {
      return unreadable("", nothing.error());
    }
    LFS_ASSIGN(Squashed done, fill(*nothing, view, root->get(), std::move(apply), options));
    if (options.strict && !done.losses.empty()) {
      LFS_ASSIGN(const Loss loss, done.losses.first());
      return Failure{"'/" + loss.path + "': " + loss.what + " would be lost; nothing was written"};
    }
    // An empty directory gives way.
    auto moved = sys::rename_at(at, {target.dir.get(), target.name.c_str()});
    if (!moved) {
      return Failure{"'" + out + "': " + describe(moved.error()) + "; name a new directory"};
    }
    return done;
  }();
  if (!work) {
    ignore(sys::remove_tree(at), "there is nobody to tell");
  }
  return work;
}

}  // namespace layerfs::oci
