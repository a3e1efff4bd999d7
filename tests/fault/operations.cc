#include "tests/fault/operations.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <initializer_list>
#include <utility>

namespace layerfs::fault {
namespace {

int outcome(long result) { return result < 0 ? -errno : 0; }

Act chmod_to(const std::string& path, mode_t mode) {
  return [=](World& w) { return outcome(::chmod(w.at(path).c_str(), mode)); };
}
Act chown_to(const std::string& path, uid_t uid, gid_t gid) {
  return [=](World& w) { return outcome(::lchown(w.at(path).c_str(), uid, gid)); };
}
Act touch(const std::string& path) {
  return [=](World& w) {
    return outcome(::utimensat(AT_FDCWD, w.at(path).c_str(), nullptr, AT_SYMLINK_NOFOLLOW));
  };
}
Act set_mark(const std::string& path, const std::string& name, const std::string& value) {
  return [=](World& w) {
    return outcome(::lsetxattr(w.at(path).c_str(), name.c_str(), value.data(), value.size(), 0));
  };
}
Act remove_mark(const std::string& path, const std::string& name) {
  return [=](World& w) { return outcome(::lremovexattr(w.at(path).c_str(), name.c_str())); };
}
// An ACL of u::rwx, u:1000:rwx, g::r-x, mask, o::r-x.
Act set_acl(const std::string& path, const std::string& name) {
  static const char kAcl[] =
      "\2\0\0\0\1\0\7\0\xff\xff\xff\xff\2\0\7\0\xe8\3\0\0\4\0\5\0\xff\xff\xff\xff"
      "\20\0\7\0\xff\xff\xff\xff\40\0\5\0\xff\xff\xff\xff";
  return set_mark(path, name, std::string(kAcl, sizeof kAcl - 1));
}
Act truncate_to(const std::string& path, off_t size) {
  return [=](World& w) { return outcome(::truncate(w.at(path).c_str(), size)); };
}
// Some bytes within one page, on disk afterwards.
Act write_into(const std::string& path, off_t offset, int flags = 0) {
  return [=](World& w) {
    w.drop();
    w.fd = ::open(w.at(path).c_str(), O_WRONLY | O_CLOEXEC | flags, 0644);
    if (w.fd < 0 || ::pwrite(w.fd, "written", 7, offset) < 0 || ::fsync(w.fd) < 0) {
      const int error = -errno;
      w.drop();
      return error;
    }
    return w.drop();
  };
}
Act make(const std::string& path, mode_t mode = 0640) {
  return [=](World& w) {
    w.drop();
    w.fd = ::open(w.at(path).c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    return w.fd < 0 ? -errno : w.drop();
  };
}
Act make_dir(const std::string& path) {
  return [=](World& w) { return outcome(::mkdir(w.at(path).c_str(), 0750)); };
}
Act make_node(const std::string& path, mode_t mode, dev_t rdev = 0) {
  return [=](World& w) { return outcome(::mknod(w.at(path).c_str(), mode, rdev)); };
}
Act make_symlink(const std::string& path) {
  return [=](World& w) { return outcome(::symlink("somewhere", w.at(path).c_str())); };
}
Act unlink_of(const std::string& path) {
  return [=](World& w) { return outcome(::unlink(w.at(path).c_str())); };
}
Act remove_dir(const std::string& path) {
  return [=](World& w) { return outcome(::rmdir(w.at(path).c_str())); };
}
Act rename_to(const std::string& from, const std::string& to, unsigned flags = 0) {
  return [=](World& w) {
    return outcome(::renameat2(AT_FDCWD, w.at(from).c_str(), AT_FDCWD, w.at(to).c_str(), flags));
  };
}
Act exchange(const std::string& a, const std::string& b) {
  return rename_to(a, b, RENAME_EXCHANGE);
}
Act link_to(const std::string& from, const std::string& to) {
  return [=](World& w) {
    return outcome(::linkat(AT_FDCWD, w.at(from).c_str(), AT_FDCWD, w.at(to).c_str(), 0));
  };
}
Act open_file(const std::string& path, int flags) {
  return [=](World& w) {
    w.drop();
    w.fd = ::open(w.at(path).c_str(), flags | O_CLOEXEC, 0644);
    return w.fd < 0 ? -errno : 0;
  };
}
Act write_open() {
  return [](World& w) {
    return ::pwrite(w.fd, "written", 7, 0) < 0 || ::fsync(w.fd) < 0 ? -errno : 0;
  };
}
Act name_open(const std::string& path) {
  return [=](World& w) {
    const std::string self = "/proc/self/fd/" + std::to_string(w.fd);
    const int error =
        outcome(::linkat(AT_FDCWD, self.c_str(), AT_FDCWD, w.at(path).c_str(), AT_SYMLINK_FOLLOW));
    return error != 0 ? error : w.drop();
  };
}
Act close_open() {
  return [](World& w) { return w.drop(); };
}
Act allocate(const std::string& path) {
  return [=](World& w) {
    w.drop();
    w.fd = ::open(w.at(path).c_str(), O_WRONLY | O_CLOEXEC);
    const int error = w.fd < 0 ? -errno : outcome(::fallocate(w.fd, 0, 0, 20000));
    w.drop();
    return error;
  };
}

void add_copy_ups(std::vector<Operation>& all) {
  const auto add = [&all](Operation operation) { all.push_back(std::move(operation)); };
  add({"chmod of a lower file", {chmod_to("d/f1", 0600)}});
  add({"chown of a lower file", {chown_to("d/f1", 7, 8)}});
  add({"chown of a lower set-user-ID file", {chown_to("suid", 7, 8)}});
  add({"touch of a lower file", {touch("d/sub/g")}});
  add({"attribute of a lower file", {set_mark("attr", "user.b", "new")}});
  add({"attribute removed from a lower file", {remove_mark("attr", "user.a")}});
  add({"ACL of a lower file", {set_acl("d/f1", "system.posix_acl_access")}});
  add({"default ACL of a lower directory", {set_acl("d", "system.posix_acl_default")}});
  add({"write to a lower file", {write_into("d/f1", 5000)}});
  add({"append to a lower file", {write_into("d/f4", 4, O_APPEND)}});
  add({"write to a lower sparse file", {write_into("sparse", 500000)}});
  add({"write to a lower empty file", {write_into("zero", 0)}});
  add({"truncating open of a lower file", {open_file("d/f1", O_WRONLY | O_TRUNC), close_open()}});
  add({"truncation of a lower file", {truncate_to("d/f1", 5000)}});
  add({"truncation of a lower file to nothing", {truncate_to("d/sub/g", 0)}});
  add({"allocation in a lower file", {allocate("d/f1")}});
  add({"chmod of a lower directory", {chmod_to("d/sub", 0700)}});
  add({"chmod of the root", {chmod_to("", 0711)}});
  add({"touch of a lower symlink", {touch("lnk")}});
  add({"chown of a lower symlink", {chown_to("lnk", 7, 8)}});
  add({"chmod of a lower FIFO", {chmod_to("fifo", 0600)}});
  add({"chmod of a lower device", {chmod_to("null", 0600)}});
  add({"chmod of a lower socket", {chmod_to("sock", 0600)}});
  const std::vector<Act> known = {chmod_to("d/f1", 0600)};
  add({"write to a file of which only attributes are above", {write_into("d/f1", 5000)}, known});
  add({"truncation of a file of which only attributes are above", {truncate_to("d/f1", 9)}, known});
  add({"chmod of an upper file", {chmod_to("uf", 0600)}});
  add({"chown of an upper file", {chown_to("uf", 7, 8)}});
  add({"write to an upper file", {write_into("uf", 3)}});
  add({"truncation of an upper file", {truncate_to("uf", 2)}});
  add({"attribute of an upper file", {set_mark("uf", "user.b", "new")}});
}

void add_creations(std::vector<Operation>& all) {
  const auto add = [&all](Operation operation) { all.push_back(std::move(operation)); };
  for (const auto& [what, name] :
       {std::pair{"", "ud/new"}, std::pair{" in a lower directory", "d/sub/new"},
        std::pair{" over a whiteout", "wh"}, std::pair{" over the whiteout of a directory", "whd"},
        std::pair{" in a directory that is emptied", "full/x"}}) {
    const std::string place = what;
    add({"creation" + place, {make(name)}});
    add({"mkdir" + place, {make_dir(name)}});
    add({"mkfifo" + place, {make_node(name, S_IFIFO | 0640)}});
    add({"mknod" + place, {make_node(name, S_IFCHR | 0640, makedev(1, 5))}});
    add({"symlink" + place, {make_symlink(name)}});
    add({"O_TMPFILE" + place,
         {open_file(std::string(name).find('/') == std::string::npos
                        ? "."
                        : std::string(name).substr(0, std::string(name).rfind('/')),
                    O_TMPFILE | O_WRONLY),
          name_open(name)}});
    add({"link of an upper file" + place, {link_to("uf", name)}});
    add({"link of a lower file" + place, {link_to("d/f1", name)}});
  }
  add({"creation in a set-group-ID directory", {make("d/new")}, {chmod_to("d", 02775)}});
  add({"mkdir below a default ACL",
       {make_dir("d/new")},
       {set_acl("d", "system.posix_acl_default")}});
  add({"creation below a default ACL, over a whiteout",
       {make("d/f2")},
       {set_acl("d", "system.posix_acl_default"), unlink_of("d/f2")}});
  add({"link of a file of which only attributes are above",
       {link_to("d/f1", "ud/new")},
       {chmod_to("d/f1", 0600)}});
}

void add_deletions(std::vector<Operation>& all) {
  const auto add = [&all](Operation operation) { all.push_back(std::move(operation)); };
  add({"unlink of an upper file", {unlink_of("uf")}});
  add({"unlink of a lower file", {unlink_of("d/f1")}});
  add({"unlink of a file in both", {unlink_of("both")}});
  add({"unlink of a file in both, in a directory", {unlink_of("p/uq")}});
  add({"unlink of a lower symlink", {unlink_of("lnk")}});
  add({"unlink of a lower device", {unlink_of("null")}});
  add({"unlink of a file that two lowers have", {unlink_of("d/f3")}});
  add({"unlink of a file of which only attributes are above",
       {unlink_of("d/f1")},
       {chmod_to("d/f1", 0600)}});
  add({"rmdir of an upper directory", {remove_dir("ue")}});
  add({"rmdir of a lower directory", {remove_dir("e")}});
  add({"rmdir of a directory that is emptied", {remove_dir("full")}});
  add({"unlink of an open lower file",
       {open_file("d/f1", O_RDWR), unlink_of("d/f1"), write_open(), close_open()}});
  add({"unlink of an open upper file",
       {open_file("uf", O_RDWR), unlink_of("uf"), write_open(), close_open()}});
  add({"unlink of all of a lower directory",
       {unlink_of("m/a"), unlink_of("m/b"), unlink_of("m/d"), unlink_of("m/c/x"),
        unlink_of("m/c/y"), remove_dir("m/c"), remove_dir("m")}});
}

void add_renames(std::vector<Operation>& all) {
  const auto add = [&all](Operation operation) { all.push_back(std::move(operation)); };
  struct Named {
    const char* what;
    const char* name;
  };
  const std::vector<Named> from = {{"an upper file", "uf"},
                                   {"a lower file", "d/f1"},
                                   {"a file in both", "both"},
                                   {"a lower symlink", "lnk"}};
  const std::vector<Named> to = {
      {"a new name", "ud/new"},   {"a new name in a lower directory", "d/sub/new"},
      {"an upper file", "uf2"},   {"a lower file", "d/f2"},
      {"a file in both", "p/uq"}, {"a lower link", "h/2"},
      {"a whiteout", "wh"},       {"the whiteout of a directory", "whd"}};
  for (const Named& old : from) {
    for (const Named& next : to) {
      const bool index = next.name == std::string("h/2");
      add({std::string("rename of ") + old.what + " to " + next.what,
           {rename_to(old.name, next.name)},
           {},
           index ? std::set{Trait::HighCount} : std::set<Trait>{}});
    }
  }
  const std::vector<Named> dirs = {
      {"an upper directory", "ud"}, {"a lower directory", "m"}, {"a directory in both", "bothd"}};
  const std::vector<Named> places = {{"a new name", "new"},
                                     {"a new name in a lower directory", "d/new"},
                                     {"an upper directory", "ue"},
                                     {"a lower directory", "e"},
                                     {"a directory that is emptied", "full"},
                                     {"a whiteout", "wh"},
                                     {"the whiteout of a directory", "whd"}};
  for (const Named& old : dirs) {
    for (const Named& next : places) {
      // The exchange with a whiteout leaves it at the old name for a moment.
      const bool idle = old.name == std::string("ud") && std::string(next.name).starts_with("wh");
      add({std::string("rename of ") + old.what + " to " + next.what,
           {rename_to(old.name, next.name)},
           {},
           idle ? std::set{Trait::IdleWhiteout} : std::set<Trait>{}});
    }
  }
  add({"rename of a directory that was renamed",
       {rename_to("new", "d/again")},
       {rename_to("m", "new")}});
  add({"rename into a directory that was renamed",
       {rename_to("d/f1", "new/f1")},
       {rename_to("m", "new")}});
  add({"rename of a file of which only attributes are above",
       {rename_to("d/f1", "ud/new")},
       {chmod_to("d/f1", 0600)}});
  add({"rename without replacing", {rename_to("d/f1", "ud/new", RENAME_NOREPLACE)}});
  add({"exchange of upper files", {exchange("uf", "uf2")}});
  add({"exchange of lower files", {exchange("d/f1", "d/sub/g")}});
  add({"exchange of an upper and a lower file", {exchange("uf", "d/f2")}});
  add({"exchange of a file and a directory", {exchange("d/f1", "m")}});
  add({"exchange of an upper and a lower directory", {exchange("ud", "m")}});
  add({"exchange of lower directories", {exchange("m", "d/sub")}});
}

void add_links(std::vector<Operation>& all) {
  const std::set<Trait> index = {Trait::HighCount};
  const auto add = [&](const std::string& name, std::vector<Act> steps,
                       std::vector<Act> prepare = {}) {
    all.push_back({name, std::move(steps), std::move(prepare), index});
  };
  const std::vector<Act> known = {chmod_to("h/1", 0600)};
  add("chmod of a lower link", {chmod_to("h/1", 0600)});
  add("write to a lower link", {write_into("h/1", 2)});
  add("unlink of a lower link", {unlink_of("h/2")});
  add("unlink of all names of a lower link",
      {unlink_of("h/1"), unlink_of("h/3"), unlink_of("h/2")});
  add("rename of a lower link", {rename_to("h/1", "ud/new")});
  add("rename over a lower link of another file", {rename_to("h/1", "g/1")});
  add("link of a lower link", {link_to("h/1", "ud/new")});
  add("exchange of lower links", {exchange("h/1", "g/1")});
  add("chmod of another name of a link in the index", {chmod_to("h/2", 0644)}, known);
  add("write to another name of a link in the index", {write_into("h/2", 2)}, known);
  add("unlink of a name of a link in the index", {unlink_of("h/1")}, known);
  add("unlink of another name of a link in the index", {unlink_of("h/2")}, known);
  add("rename of another name of a link in the index", {rename_to("h/2", "ud/new")}, known);
  add("rename over another name of a link in the index", {rename_to("uf", "h/2")}, known);
  add("link of a link in the index over a whiteout", {link_to("h/2", "wh")}, known);
  add("unlink of the last name of a link in the index", {unlink_of("h/3")},
      {chmod_to("h/1", 0600), unlink_of("h/1"), unlink_of("h/2")});
  add("rename over the last name of a link in the index", {rename_to("uf", "h/3")},
      {chmod_to("h/1", 0600), unlink_of("h/1"), unlink_of("h/2")});
}

void add_init_layer(std::vector<Operation>& all) {
  const auto add = [&all](const std::string& name, std::vector<Act> steps,
                          std::set<Trait> traits = {}) {
    traits.insert(Trait::Init);
    all.push_back({"init layer: " + name, std::move(steps), {}, std::move(traits)});
  };
  const std::set<Trait> both = {Trait::BothNames};
  add("write", {write_into("etc/hostname", 3)});
  add("chmod", {chmod_to("etc/hostname", 0600)});
  add("unlink", {unlink_of("etc/only")});
  add("unlink over a lower", {unlink_of("etc/hostname")});
  add("rmdir of all", {unlink_of("private/s/g"), remove_dir("private/s")});
  add("creation", {make("private/new")});
  add("mkdir", {make_dir("private/new")});
  add("creation over a whiteout", {make("etc/hid")});
  add("mkdir over a whiteout", {make_dir("etc/hidd")});
  add("symlink over a whiteout", {make_symlink("etc/hid")});
  add("rename within", {rename_to("etc/only", "private/only")});
  add("rename over a lower name", {rename_to("etc/only", "etc/hostname")});
  add("rename over a whiteout", {rename_to("etc/only", "etc/hid")});
  add("rename of a hiding file", {rename_to("etc/hostname", "private/new")});
  add("creation beside", {make("etc/new")});
  add("write beside", {write_into("etc/passwd", 2)});
  add("unlink beside", {unlink_of("etc/passwd")});
  add("rename to the upper", {rename_to("etc/only", "ud/new")}, both);
  add("rename to the upper, over a lower name", {rename_to("etc/only", "etc/passwd")}, both);
  add("rename of a hiding file to the upper", {rename_to("etc/hostname", "uf")}, both);
  add("rename from the upper", {rename_to("uf", "private/new")}, both);
  add("rename from the upper, over it", {rename_to("uf", "etc/only")}, both);
  add("rename from the lower, over it", {rename_to("etc/passwd", "etc/hostname")}, both);
  add("rename from the lower, over a whiteout", {rename_to("d/f1", "etc/hid")}, both);
  add("exchange", {exchange("etc/only", "private/f")});
}

bool has_word(const std::string& name, std::initializer_list<const char*> words) {
  return std::any_of(words.begin(), words.end(),
                     [&name](const char* word) { return name.find(word) != std::string::npos; });
}

}  // namespace

bool Operation::may_leave(const std::string& finding) const {
  const auto is = [&finding](const char* kind) { return finding.find(kind) != std::string::npos; };
  return (has(Trait::HighCount) && (is("index-count") || is("index-unused"))) ||
         (has(Trait::IdleWhiteout) && is("idle-whiteout"));
}

int World::drop() {
  if (fd < 0) {
    return 0;
  }
  const int result = ::close(fd) < 0 ? -errno : 0;
  fd = -1;
  return result;
}

const std::vector<Operation>& operations() {
  static const std::vector<Operation> all = [] {
    std::vector<Operation> list;
    add_copy_ups(list);
    add_creations(list);
    add_deletions(list);
    add_renames(list);
    add_links(list);
    add_init_layer(list);
    for (Operation& operation : list) {
      if (has_word(operation.name, {"write", "append", "truncat", "allocation", "open"})) {
        operation.traits.insert(Trait::Data);
        operation.traits.insert(Trait::WritesBack);
      }
      if (has_word(operation.name, {"creation", "O_TMPFILE"})) {
        operation.traits.insert(Trait::WritesBack);
      }
    }
    return list;
  }();
  return all;
}

}  // namespace layerfs::fault
