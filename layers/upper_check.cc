#include "layers/upper_check.h"

#include <dirent.h>
#include <fcntl.h>

#include <map>
#include <set>
#include <utility>

#include "layers/path_text.h"
#include "layers/sys/bulk.h"

namespace layerfs {
namespace {

constexpr const char* kIncompat = "incompat";

Failure failure(const std::string& what, Errno error) { return {what + ": " + describe(error)}; }

class Check {
 public:
  Check(const MergedView& view, const CheckedUpper& checked, const CheckOptions& options,
        const std::function<void(const Finding&)>& visit)
      : view_(view), checked_(checked), options_(options), visit_(visit) {}

  Result<void, Failure> run() {
    if (checked_.work >= 0) {
      if (const auto done = check_work(); !done) {
        return failure("the work directory", done.error());
      }
      auto writer = options_.repair ? probe_marks(checked_.work, {}) : MarkWriter();
      if (!writer) {
        return failure("the work directory", writer.error());
      }
      writer_ = *writer;
    }
    if (checked_.index >= 0) {
      if (const auto done = read_index(); !done) {
        return failure("the index of the work directory", done.error());
      }
    }
    if (const auto done = walk(); !done) {
      return failure("/" + at_, done.error());
    }
    if (const auto done = judge_index(); !done) {
      return failure("the index of the work directory", done.error());
    }
    return {};
  }

 private:
  struct Indexed {
    std::string name;
    nlink_t links;
    int delta;
    int lower_names = 0;
  };
  struct Pending {
    ViewEntry entry;
    std::string path;
  };

  // `mend` is called if it is wished; what it does is said to be done.
  template <class F>
  Status found(Trouble trouble, const std::string& path, F mend) {
    if (options_.repair) {
      LFS_TRY(mend());
    }
    visit_({trouble, path, options_.repair});
    return {};
  }
  void found(Trouble trouble, const std::string& path) { visit_({trouble, path, false}); }

  Status check_work() {
    LFS_ASSIGN(const auto names, sys::names_in(checked_.work));
    for (const std::string& name : names) {
      if (name != kIncompat) {
        LFS_TRY(found(Trouble::Leftover, name, [&] {
          return sys::remove_nameless({checked_.work, name.c_str()});
        }));
        continue;
      }
      LFS_ASSIGN(const UniqueFd incompat,
                 sys::open_at({checked_.work, kIncompat}, O_RDONLY | O_DIRECTORY));
      LFS_ASSIGN(const auto marks, sys::names_in(incompat.get()));
      for (const std::string& mark : marks) {
        found(Trouble::VolatileMark, name + "/" + mark);
      }
    }
    return {};
  }

  Status read_index() {
    LFS_ASSIGN(const auto names, sys::names_in(checked_.index));
    for (const std::string& name : names) {
      const sys::At at{checked_.index, name.c_str()};
      const auto key = parse_index_name(name);
      if (!key) {
        LFS_TRY(found(Trouble::IndexName, name, [&] { return sys::remove_tree(at); }));
        continue;
      }
      LFS_ASSIGN(const struct statx st, sys::stat_at(at));
      LFS_ASSIGN(const FileMarks marks, read_file_marks(at, st.stx_ino));
      index_[*key] = {name, st.stx_nlink, marks.nlink ? parse_link_delta(*marks.nlink) : 0};
    }
    return {};
  }

  // Directories that the upper has; all of them where names of indexed files are counted.
  Status walk() {
    const bool everywhere = options_.with_lowers && !index_.empty();
    std::vector<Pending> pending;
    pending.push_back({view_.root(), ""});
    while (!pending.empty()) {
      const Pending next = std::move(pending.back());
      pending.pop_back();
      at_ = next.path;
      ViewDirectory dir = view_.directory(next.entry);
      if (next.entry.layer == 0) {
        LFS_TRY(check_directory(dir, next, pending));
      }
      if (everywhere) {
        LFS_TRY(count_lower_names(dir, next, pending));
      }
    }
    return {};
  }

  Status check_directory(ViewDirectory& dir, const Pending& here, std::vector<Pending>& pending) {
    LFS_ASSIGN(const MergedDirectory upper, view_.list(dir, 0, 1));
    LFS_ASSIGN(const MergedDirectory below, view_.list(dir, 1, view_.stack().size()));
    if (options_.with_lowers) {
      for (const std::string& name : upper.upper_whiteouts) {
        if (below.visible.find(name) == nullptr) {
          LFS_TRY(found(Trouble::IdleWhiteout, join(here.path, name),
                        [&] { return remove_whiteout(here.path, name); }));
        }
      }
    }
    Status status;
    upper.visible.for_each_after(0, [&](const DirectoryListing::Entry& entry) {
      const bool exists_below = below.visible.find(entry.name) != nullptr;
      status = check_object(dir, here.path, std::string(entry.name), exists_below, pending);
      return status.ok();
    });
    return status;
  }

  Status check_object(ViewDirectory& dir, const std::string& parent, const std::string& name,
                      bool exists_below, std::vector<Pending>& pending) {
    at_ = join(parent, name);
    LFS_ASSIGN(const int fd, dir.open(0));
    const sys::At at{fd, name.c_str()};
    LFS_ASSIGN(const struct statx st, sys::stat_at(at));
    if (S_ISDIR(st.stx_mode)) {
      return check_subdirectory(dir, parent, name, exists_below, pending);
    }
    LFS_ASSIGN(const FileMarks marks, read_file_marks(at, st.stx_ino));
    if (marks.metacopy && options_.with_lowers) {
      LFS_ASSIGN(ViewEntry entry, view_.entry(dir, name, 0, exists_below));
      ViewObject object(view_, dir, std::move(entry));
      const auto data = object.data_place();
      if (!data && data.error().value() != ENODATA) {
        return data.error();
      }
      if (!data) {
        found(Trouble::MissingData, at_);
      }
    }
    if (marks.nlink && marks.origin) {
      return check_link({marks.origin->fsid, marks.origin->ino}, st, *marks.nlink, parent, name);
    }
    return {};
  }

  Status check_subdirectory(ViewDirectory& dir, const std::string& parent, const std::string& name,
                            bool exists_below, std::vector<Pending>& pending) {
    LFS_ASSIGN(const int fd, dir.open(0));
    LFS_ASSIGN(const DirMarks marks, read_dir_marks({fd, name.c_str()}));
    const bool leads = marks.redirect && marks.opaque != Opaque::Yes && options_.with_lowers;
    if (leads && !parse_redirect(*marks.redirect)) {
      return found(Trouble::DanglingRedirect, at_, [&] { return make_opaque(parent, name); });
    }
    LFS_ASSIGN(ViewEntry entry, view_.entry(dir, name, 0, exists_below));
    if (leads && entry.sources.size() == 1) {
      LFS_TRY(found(Trouble::DanglingRedirect, at_, [&] { return make_opaque(parent, name); }));
    }
    pending.push_back({std::move(entry), at_});
    return {};
  }

  Status check_link(IndexKey key, const struct statx& st, const std::string& nlink,
                    const std::string& parent, const std::string& name) {
    if (index_.contains(key)) {
      return {};
    }
    if (checked_.index < 0) {
      found(Trouble::LostLink, at_);
      return {};
    }
    const std::string index_name = format_index_name(key);
    LFS_TRY(found(Trouble::LostLink, at_, [&]() -> Status {
      LFS_ASSIGN(const UniqueFd above, open_upper(parent));
      return sys::link_at({above.get(), name.c_str()}, {checked_.index, index_name.c_str()});
    }));
    // The further names of the inode are told of by this one; and what was not in the index
    // when the view was opened is not counted.
    lost_.insert(key);
    index_[key] = {index_name, st.stx_nlink + 1, parse_link_delta(nlink)};
    return {};
  }

  Status count_lower_names(ViewDirectory& dir, const Pending& here, std::vector<Pending>& pending) {
    at_ = here.path;
    LFS_ASSIGN(const MergedDirectory all, view_.list(dir));
    Status status;
    all.visible.for_each_after(0, [&](const DirectoryListing::Entry& entry) {
      if (entry.layer > 0) {
        status = count_lower_name(dir, here.path, entry, pending);
      }
      return status.ok();
    });
    return status;
  }

  Status count_lower_name(ViewDirectory& dir, const std::string& parent,
                          const DirectoryListing::Entry& listed, std::vector<Pending>& pending) {
    at_ = join(parent, listed.name);
    const bool exists_below = (listed.flags & kExistsBelow) != 0;
    LFS_ASSIGN(ViewEntry entry, view_.entry(dir, listed.name, listed.layer, exists_below));
    if (entry.is_directory()) {
      pending.push_back({std::move(entry), at_});
    } else if (entry.index_name) {
      const auto key = parse_index_name(*entry.index_name);
      ++index_.at(*key).lower_names;
    }
    return {};
  }

  Status judge_index() {
    for (const auto& [key, entry] : index_) {
      if (lost_.contains(key)) {
        continue;
      }
      const sys::At at{checked_.index, entry.name.c_str()};
      // The index itself is one of the links.
      const int names = static_cast<int>(entry.links) - 1 + entry.lower_names;
      const int counted = static_cast<int>(entry.links) + entry.delta;
      if (options_.with_lowers ? names == 0 : counted <= 0) {
        LFS_TRY(found(Trouble::IndexUnused, entry.name,
                      [&] { return sys::unlink_at(at, sys::UnlinkKind::File); }));
      } else if (options_.with_lowers && names != counted) {
        LFS_TRY(found(Trouble::IndexCount, entry.name, [&, lower = entry.lower_names] {
          return writer_.set_nlink(at, format_link_delta(lower - 1));
        }));
      }
    }
    return {};
  }

  Result<UniqueFd> open_upper(const std::string& path) const {
    return sys::open_beneath(checked_.upper, path.empty() ? "." : path, O_RDONLY | O_DIRECTORY);
  }

  Status remove_whiteout(const std::string& parent, const std::string& name) {
    LFS_ASSIGN(const UniqueFd above, open_upper(parent));
    LFS_ASSIGN(const auto times, sys::KeptTimes::of(above.get()));
    LFS_TRY(writer_.remove_whiteout(above.get(), name));
    const sys::At at{above.get(), name.c_str()};
    LFS_ASSIGN(const auto st, sys::try_stat_at(at));
    if (st && S_ISREG(st->stx_mode)) {
      LFS_ASSIGN(const bool by_attribute, is_whiteout_by_xattr(at));
      if (by_attribute) {
        LFS_TRY(sys::unlink_at(at, sys::UnlinkKind::File));
      }
    }
    return times.restore();
  }

  Status make_opaque(const std::string& parent, const std::string& name) {
    LFS_ASSIGN(const UniqueFd above, open_upper(parent));
    const sys::At at{above.get(), name.c_str()};
    LFS_TRY(writer_.set_opaque(at));
    return writer_.clear_redirect(at);
  }

  const MergedView& view_;
  const CheckedUpper& checked_;
  const CheckOptions& options_;
  const std::function<void(const Finding&)>& visit_;
  MarkWriter writer_;
  std::map<IndexKey, Indexed> index_;
  std::set<IndexKey> lost_;
  std::string at_;  // where an error is
};

}  // namespace

const char* to_string(Trouble trouble) {
  switch (trouble) {
    case Trouble::Leftover:
      return "leftover";
    case Trouble::VolatileMark:
      return "volatile";
    case Trouble::IndexName:
      return "index-name";
    case Trouble::IndexUnused:
      return "index-unused";
    case Trouble::IndexCount:
      return "index-count";
    case Trouble::IdleWhiteout:
      return "idle-whiteout";
    case Trouble::DanglingRedirect:
      return "dangling-redirect";
    case Trouble::MissingData:
      return "missing-data";
    case Trouble::LostLink:
      return "lost-link";
  }
  return "?";
}

Result<void, Failure> check_upper(const MergedView& view, const CheckedUpper& checked,
                                  const CheckOptions& options,
                                  const std::function<void(const Finding&)>& visit) {
  return Check(view, checked, options, visit).run();
}

}  // namespace layerfs
