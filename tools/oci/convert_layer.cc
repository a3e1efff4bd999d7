#include "tools/oci/convert_layer.h"

#include <fcntl.h>

#include <vector>

#include "layers/path_text.h"
#include "tools/oci/convert_journal.h"
#include "whiteout/convert.h"

namespace layerfs::oci {
namespace {

class Walk {
 public:
  Walk(int root, std::string shown, const std::function<Fallible<void>()>& poll)
      : root_(root), shown_(std::move(shown)), poll_(poll) {}

  using Visit = std::function<Fallible<void>(int dir, const std::string& path,
                                             const std::vector<std::string>& files)>;
  // Every directory, each before those in it.
  Fallible<void> run(const Visit& visit) {
    std::vector<std::string> pending = {""};
    while (!pending.empty()) {
      const std::string path = std::move(pending.back());
      pending.pop_back();
      LFS_TRY(poll_());
      auto dir = sys::open_beneath(root_, path, O_RDONLY | O_DIRECTORY);
      if (!dir) {
        return failure(path, dir.error());
      }
      std::vector<std::string> files;
      sys::DirReader reader(dir->get());
      for (;;) {
        const auto entry = reader.next();
        if (!entry) {
          return failure(path, entry.error());
        }
        if (!*entry) {
          break;
        }
        const std::string name((*entry)->name);
        const auto st = sys::stat_at({dir->get(), name.c_str()});
        if (!st) {
          return failure(join(path, name), st.error());
        }
        if (S_ISDIR(st->stx_mode)) {
          pending.push_back(join(path, name));
        } else if (S_ISREG(st->stx_mode)) {
          files.push_back(name);
        }
      }
      LFS_TRY(visit(dir->get(), path, files));
    }
    return {};
  }
  Failure failure(const std::string& path, Errno error) const {
    return {"'" + shown_ + "/" + path + "': " + describe(error)};
  }

 private:
  int root_;
  std::string shown_;
  const std::function<Fallible<void>()>& poll_;
};

Fallible<void> refuse_redirects(Walk& walk) {
  return walk.run([&walk](int dir, const std::string& path,
                          const std::vector<std::string>& files) -> Fallible<void> {
    const auto refuse = [](const std::string& name, const char* what) {
      return Failure{"'/" + name + "' is " + what +
                     ", which has no form in OCI layers; make a layer by commit instead"};
    };
    const auto marks = read_dir_marks({dir});
    if (!marks) {
      return walk.failure(path, marks.error());
    }
    if (marks->redirect) {
      return refuse(path, "a renamed directory");
    }
    for (const std::string& name : files) {
      const auto file = read_file_marks({dir, name.c_str()}, 0);
      if (!file) {
        return walk.failure(join(path, name), file.error());
      }
      if (file->metacopy) {
        return refuse(join(path, name), "a copy of the metadata only");
      }
    }
    return {};
  });
}

Fallible<MarkWriter> probe(int root, const std::string& path, WhiteoutForm form) {
  const sys::At at{root, kConvertTemporary};
  const auto times = sys::KeptTimes::of(root);
  auto made = sys::mkdir_at(at, 0700);
  if (!made && made.error().value() == EEXIST) {
    made = sys::remove_tree(at);
    if (made) {
      made = sys::mkdir_at(at, 0700);
    }
  }
  auto dir = made ? sys::open_at(at, O_RDONLY | O_DIRECTORY) : Result<UniqueFd>(made.error());
  const auto marks =
      dir ? probe_marks(dir->get(), {form, std::nullopt}) : Result<MarkWriter>(dir.error());
  ignore(sys::remove_tree(at), "if it cannot be removed, neither can the marks");
  if (times) {
    ignore(times->restore(), "a time of the layer's root only");
  }
  if (!marks) {
    return Failure{"layer '" + path + "' cannot hold that form: " + describe(marks.error())};
  }
  return *marks;
}

}  // namespace

Fallible<Converted> convert_layer(const std::string& path, WhiteoutForm form,
                                  const std::function<Fallible<void>()>& poll) {
  const auto root = sys::open_path(path, O_RDONLY | O_DIRECTORY);
  const auto locked = root ? sys::try_lock_exclusive(root->get()) : Result<bool>(root.error());
  if (!locked) {
    return Failure{"layer '" + path + "': " + describe(locked.error())};
  }
  if (!*locked) {
    return Failure{"layer '" + path + "' is in use; unmount it first"};
  }
  LFS_ASSIGN(ConvertJournal journal, ConvertJournal::begin(root->get(), path));
  LFS_ASSIGN(const MarkWriter writer, probe(root->get(), path, form));
  Walk walk(root->get(), path, poll);
  if (form == WhiteoutForm::DotWh) {
    LFS_TRY(refuse_redirects(walk));
  }
  Converted out;
  const auto walked = walk.run([&](int dir, const std::string& name,
                                   const std::vector<std::string>& /*files*/) -> Fallible<void> {
    LFS_TRY(journal.note(dir, name));
    const auto changed = convert_directory_marks(dir, writer);
    if (!changed) {
      return walk.failure(name, changed.error());
    }
    ++out.directories;
    out.marks += *changed;
    return {};
  });
  if (!walked) {
    return walked.error();
  }
  return out;
}

}  // namespace layerfs::oci
