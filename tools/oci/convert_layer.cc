#include "tools/oci/convert_layer.h"

#include <fcntl.h>

#include <string>

#include "layers/path_text.h"
#include "layers/spill_log.h"
#include "tools/oci/convert_journal.h"
#include "whiteout/convert.h"

namespace layerfs::oci {
namespace {

class Walk {
 public:
  Walk(int root, std::string shown, const std::function<Fallible<void>()>& poll)
      : root_(root), shown_(std::move(shown)), poll_(poll) {}

  using VisitDirectory = std::function<Fallible<void>(int dir, const std::string& path)>;
  using VisitFile =
      std::function<Fallible<void>(int dir, const std::string& path, const std::string& name)>;
  // Every directory, the regular files in it first, then it, then those in it.
  Fallible<void> run(const VisitDirectory& visit, const VisitFile& visit_file) {
    LFS_TRY(push(""));
    while (pending_.size() > 0) {
      LFS_ASSIGN(const std::string path, pop());
      LFS_TRY(poll_());
      const auto dir = sys::open_beneath(root_, path, O_RDONLY | O_DIRECTORY);
      if (!dir) {
        return failure(path, dir.error());
      }
      LFS_TRY(list(dir->get(), path, visit_file));
      LFS_TRY(visit(dir->get(), path));
    }
    return {};
  }
  Failure failure(const std::string& path, Errno error) const {
    return {"'" + shown_ + "/" + path + "': " + describe(error)};
  }

 private:
  using Size = std::uint32_t;

  Fallible<void> list(int dir, const std::string& path, const VisitFile& visit_file) {
    sys::DirReader reader(dir);
    for (;;) {
      const auto entry = reader.next();
      if (!entry) {
        return failure(path, entry.error());
      }
      if (!*entry) {
        return {};
      }
      const std::string name((*entry)->name);
      const auto st = sys::stat_at({dir, name.c_str()});
      if (!st) {
        return failure(join(path, name), st.error());
      }
      if (S_ISDIR(st->stx_mode)) {
        LFS_TRY(push(join(path, name)));
      } else if (S_ISREG(st->stx_mode)) {
        LFS_TRY(visit_file(dir, path, name));
      }
    }
  }

  Fallible<void> push(const std::string& path) {
    const auto size = static_cast<Size>(path.size());
    LFS_TRY(pending_.append(path));
    return pending_.append({reinterpret_cast<const char*>(&size), sizeof size});
  }
  Fallible<std::string> pop() {
    Size size = 0;
    std::uint64_t at = pending_.size() - sizeof size;
    LFS_TRY(pending_.read(at, reinterpret_cast<char*>(&size), sizeof size));
    at -= size;
    std::string path(size, '\0');
    LFS_TRY(pending_.read(at, path.data(), path.size()));
    pending_.cut(at);
    return path;
  }

  int root_;
  std::string shown_;
  const std::function<Fallible<void>()>& poll_;
  SpillLog pending_;  // a stack: of each directory its path and then the size of that
};

Fallible<void> refuse_redirects(Walk& walk) {
  const auto refuse = [](const std::string& path, const char* what) {
    return Failure{"'/" + path + "' is " + what +
                   ", which has no form in OCI layers; make a layer by commit instead"};
  };
  return walk.run(
      [&](int dir, const std::string& path) -> Fallible<void> {
        const auto marks = read_dir_marks({dir});
        if (!marks) {
          return walk.failure(path, marks.error());
        }
        return marks->redirect ? refuse(path, "a renamed directory") : Fallible<void>();
      },
      [&](int dir, const std::string& path, const std::string& name) -> Fallible<void> {
        const auto marks = read_file_marks({dir, name.c_str()}, 0);
        if (!marks) {
          return walk.failure(join(path, name), marks.error());
        }
        return marks->metacopy ? refuse(join(path, name), "a copy of the metadata only")
                               : Fallible<void>();
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
  const auto convert = [&](int dir, const std::string& at) -> Fallible<void> {
    LFS_TRY(journal.note(dir, at));
    const auto changed = convert_directory_marks(dir, writer);
    if (!changed) {
      return walk.failure(at, changed.error());
    }
    ++out.directories;
    out.marks += *changed;
    return {};
  };
  const auto pass = [](int /*dir*/, const std::string& /*path*/, const std::string& /*name*/) {
    return Fallible<void>();
  };
  const auto walked = walk.run(convert, pass);
  if (!walked) {
    return walked.error();
  }
  return out;
}

}  // namespace layerfs::oci
