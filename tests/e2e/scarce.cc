// What a mount does where room, quota, descriptors, memory or the right to write run out: the error
// is told, nothing is lost or comes back, and all goes on when there is enough again.
#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/quota.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <thread>

#include "tests/testlib/skip.h"
#include "tests/testlib/test_mount.h"

using namespace layerfs::testing;

namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;

// 0 or errno, as far as the disk: of the open, the write, the fsync or the close.
int put(const std::string& path, const std::string& content, int flags) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC | flags, 0644);
  if (fd < 0) {
    return errno;
  }
  int error = 0;
  if (::write(fd, content.data(), content.size()) < 0 || ::fsync(fd) < 0) {
    error = errno;
  }
  if (::close(fd) < 0 && error == 0) {
    error = errno;
  }
  return error;
}

bool kernel_is_at_least(int major, int minor) {
  utsname names{};
  int have[2] = {};
  ::uname(&names);
  std::sscanf(names.release, "%d.%d", &have[0], &have[1]);
  return have[0] > major || (have[0] == major && have[1] >= minor);
}

int outcome(int result) { return result < 0 ? errno : 0; }

// A lower, and an upper on a filesystem of its own.
class Scarce {
 public:
  Scarce() : base_(make_temp_dir("/var/tmp")) {
    for (const char* name : {"/l", "/disk", "/m"}) {
      make_dirs(base_ + name);
    }
  }
  ~Scarce() {
    run("layerfs umount " + root());
    ::umount2(root().c_str(), MNT_DETACH);
    ::umount2(disk().c_str(), MNT_DETACH);
    run("rm -rf --one-file-system " + base_);
  }
  Scarce(const Scarce&) = delete;
  Scarce& operator=(const Scarce&) = delete;

  std::string disk() const { return base_ + "/disk"; }
  std::string root() const { return base_ + "/m"; }
  std::string lower(const std::string& path) const { return base_ + "/l/" + path; }
  std::string at(const std::string& path) const { return root() + "/" + path; }
  std::string base() const { return base_; }

  // A filesystem of its own for the upper. "" or why not.
  std::string make_disk(int mebibytes, const std::string& mkfs, const std::string& options = "") {
    const std::string image = base_ + "/image";
    const CommandResult made =
        run("truncate -s " + std::to_string(mebibytes) + "M " + image + " && " + mkfs + " " +
            image + " && mount -o loop" + options + " " + image + " " + disk());
    return made.code == 0 ? "" : made.output;
  }
  void make_tmpfs(const std::string& options) {
    if (::mount("scarce", disk().c_str(), "tmpfs", 0, options.c_str()) < 0) {
      throw_errno("tmpfs");
    }
  }
  void mount(const std::string& options, const std::string& before = "") {
    make_dirs(disk() + "/u");
    const CommandResult result =
        run(before + "layerfs mount " + base_ + "/l " + disk() + "/u " + root() + " " + options);
    if (result.code != 0) {
      throw std::runtime_error(result.output);
    }
  }
  void unmount() const { REQUIRE(run("layerfs umount " + root()).code == 0); }
  std::vector<std::string> leftovers() const { return names_in(disk() + "/.u.layerfs-work/work"); }
  void check() const {
    const CommandResult checked = run("layerfs check " + disk() + "/u --lower " + base_ + "/l");
    CHECK(checked.output == "");
    CHECK(checked.code == 0);
  }

 private:
  std::string base_;
};

// A group of processes, in whichever form the machine has. It is removed at the end.
class Group {
 public:
  // `controller`: of version 1.
  explicit Group(const std::string& controller)
      : path_((is_unified() ? "/sys/fs/cgroup" : "/sys/fs/cgroup/" + controller) +
              "/layerfs-test-" + std::to_string(::getpid())) {
    run("mkdir " + path_);
  }
  ~Group() { run("for i in 1 2 3 4 5 6 7 8 9; do rmdir " + path_ + " && break; sleep 0.1; done"); }
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;
  static bool is_unified() { return ::access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0; }
  std::string at(const std::string& name) const { return path_ + "/" + name; }
  // False: there is no such file.
  bool set(const std::string& name, std::size_t value) const {
    return run("echo " + std::to_string(value) + " >" + at(name)).code == 0;
  }

 private:
  std::string path_;
};

class MemoryGroup {
 public:
  explicit MemoryGroup(std::size_t bytes)
      : group_("memory"),
        made_(group_.set(Group::is_unified() ? "memory.max" : "memory.limit_in_bytes", bytes)) {}
  bool is_made() const { return made_; }
  std::string at(const std::string& name) const { return group_.at(name); }
  std::string state() const {
    return read_file(at(Group::is_unified() ? "memory.events" : "memory.oom_control"));
  }
  double peak_mebibytes() const {
    const char* const peak = Group::is_unified() ? "memory.peak" : "memory.max_usage_in_bytes";
    return static_cast<double>(std::stoull(read_file(at(peak)))) / static_cast<double>(kMiB);
  }

 private:
  Group group_;
  bool made_;
};

// This process's children that join it may be so many.
class ProcessGroup {
 public:
  ProcessGroup() : group_("pids"), made_(allow(1)) {}
  bool is_made() const { return made_; }
  bool allow(std::size_t most) const { return group_.set("pids.max", most); }
  void wait_until_empty() const {
    for (int i = 0; i < 500 && !read_file(group_.at("cgroup.procs")).empty(); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }
  std::string join() const { return "echo $$ >" + group_.at("cgroup.procs") + "; "; }

 private:
  Group group_;
  bool made_;
};

}  // namespace

TEST_CASE("without the threads that a mount must have it says so, with fewer than all it serves") {
  const std::string program = GENERATE("layerfs-overlay", "layerfs mount -o");
  const ProcessGroup group;
  if (!group.is_made()) {
    SKIP_TEST("no control group of processes");
  }
  Scarce scarce;
  make_dirs(scarce.base() + "/u");
  make_dirs(scarce.base() + "/w");
  write_file(scarce.lower("f"), "data");
  bool was_refused = false;
  bool was_mounted = false;
  for (std::size_t most = 3; most < 10; ++most) {
    CAPTURE(program, most);
    REQUIRE(group.allow(most));
    const CommandResult result =
        run(group.join() + "exec " + program + (program == "layerfs-overlay" ? " -o " : " ") +
            "lowerdir=" + scarce.base() + "/l,upperdir=" + scarce.base() +
            "/u,workdir=" + scarce.base() + "/w " + scarce.root());
    CAPTURE(result.output);
    if (result.code != 0) {
      was_refused = true;
      CHECK(result.output.find("signal") == std::string::npos);
      CHECK_FALSE(exists(scarce.at("f")));
    } else {
      was_mounted = true;
      CHECK(read_file(scarce.at("f")) == "data");
      write_file(scarce.at("g"), "new");
      CHECK(::umount2(scarce.root().c_str(), 0) == 0);
    }
    group.wait_until_empty();
  }
  CHECK(was_refused);
  CHECK(was_mounted);
}

TEST_CASE("on a full disk a change is ENOSPC, nothing is lost, and deleting makes room", "[S-03]") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  Scarce scarce;
  if (const std::string why = scarce.make_disk(12, "mkfs.ext4 -q -O ^has_journal -m 0");
      !why.empty()) {
    WARN("a tmpfs instead of ext4: " << why);
    scarce.make_tmpfs("size=12m");
  }
  const std::string big(4 * kMiB, 'b');
  for (const char* name : {"a", "b", "c", "d"}) {
    write_file(scarce.lower(name), big);
  }
  make_dirs(scarce.lower("dir"));
  write_file(scarce.lower("dir/f"), "lower");
  scarce.mount("--io " + io);
  // Copy-ups until there is no room.
  int refused = 0;
  for (const char* name : {"a", "b", "c", "d"}) {
    const int error = put(scarce.at(name), "B", 0);
    refused += error == 0 ? 0 : 1;
    CHECK((error == 0 || error == ENOSPC || error == EIO));
    scarce.unmount();
    scarce.mount("--io " + io);
    CHECK(read_file(scarce.at(name)) == (error == 0 ? "B" + big.substr(1) : big));
  }
  CHECK(refused > 0);
  CHECK(scarce.leftovers().empty());
  // The rest of the room, to the last block.
  int fill = 0;
  for (std::size_t size = kMiB; size > 0; size /= 4) {
    while (put(scarce.at("fill" + std::to_string(fill)), std::string(size, 'f'),
               O_CREAT | O_EXCL) == 0 &&
           fill < 3000) {
      ++fill;
    }
  }
  const std::vector<std::pair<std::string, std::function<int()>>> changes = {
      {"mkdir", [&] { return outcome(::mkdir(scarce.at("dir/new").c_str(), 0755)); }},
      {"unlink", [&] { return outcome(::unlink(scarce.at("dir/f").c_str())); }},
      {"chmod", [&] { return outcome(::chmod(scarce.at("d").c_str(), 0600)); }},
      {"rename",
       [&] { return outcome(::rename(scarce.at("dir").c_str(), scarce.at("moved").c_str())); }},
  };
  std::map<std::string, bool> done;
  for (const auto& [what, change] : changes) {
    CAPTURE(what);
    const int error = change();
    CHECK((error == 0 || error == ENOSPC));
    done[what] = error == 0;
  }
  const auto look = [&] {
    const std::string dir = done["rename"] ? "moved" : "dir";
    CHECK(exists(scarce.at(dir + "/new")) == done["mkdir"]);
    CHECK(exists(scarce.at(dir + "/f")) == !done["unlink"]);
    CHECK(((stat_of(scarce.at("d")).st_mode & 07777) == 0600) == done["chmod"]);
    CHECK(exists(scarce.at("dir")) == !done["rename"]);
  };
  look();
  scarce.unmount();
  scarce.mount("--io " + io);
  look();
  // Room again.
  for (int i = 0; i <= fill; ++i) {
    ::unlink(scarce.at("fill" + std::to_string(i)).c_str());
  }
  wait_for_room(scarce.disk(), 64 * 1024);
  CHECK(put(scarce.at("small"), "small", O_CREAT) == 0);
  CHECK(::mkdir(scarce.at("later").c_str(), 0755) == 0);
  scarce.unmount();
  scarce.check();
}

namespace {

// What all files of the disk may take together; 0: as much as they like.
struct Quota {
  std::string filesystem;
  std::string mkfs;
  std::string mount_options;
  std::function<std::string(const std::string& disk)> enable;  // "" or why not
  std::function<void(const std::string& disk, std::uint64_t bytes)> limit;
};

// Of root, whose all of them are: the daemon is one whom limits hold, for it has given up
// CAP_SYS_RESOURCE.
void limit_root(const std::string& disk, std::uint64_t bytes) {
  dqblk limits{};
  limits.dqb_bhardlimit = bytes / 1024;
  // One is over already.
  limits.dqb_ihardlimit = bytes == 0 || bytes >= kMiB ? 0 : 1;
  limits.dqb_valid = QIF_LIMITS;
  const int fd = ::open(disk.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const auto done = ::syscall(SYS_quotactl_fd, fd, QCMD(Q_SETQUOTA, USRQUOTA), 0, &limits);
  ::close(fd);
  REQUIRE(done == 0);
}

// To raise a limit would take room, too.
void limit_subvolume(const std::string& disk, std::uint64_t bytes) {
  const CommandResult result =
      run(bytes == 0 ? "btrfs quota disable " + disk
                     : "btrfs qgroup limit " + std::to_string(bytes) + " " + disk);
  CAPTURE(result.output);
  REQUIRE(result.code == 0);
}

// xfs is not among them: it limits root by projects only, and calls that ENOSPC.
std::vector<Quota> quotas() {
  return {{"ext4", "mkfs.ext4 -q -b 4096 -O quota -m 0", ",usrquota",
           [](const std::string&) { return std::string(); }, limit_root},
          {"btrfs", "mkfs.btrfs -q", "",
           [](const std::string& disk) {
             const CommandResult result = run("btrfs quota enable " + disk);
             return result.code == 0 ? std::string() : result.output;
           },
           limit_subvolume}};
}

}  // namespace

TEST_CASE("over a quota a change is EDQUOT and changes nothing, and goes on when it is lifted",
          "[S-03]") {
  const Quota quota = GENERATE(from_range(quotas()));
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(quota.filesystem, io);
  Scarce scarce;
  std::string why = scarce.make_disk(256, quota.mkfs, quota.mount_options);
  why = why.empty() ? quota.enable(scarce.disk()) : why;
  if (!why.empty()) {
    std::printf("SKIP: no quota on %s: %s\n", quota.filesystem.c_str(),
                why.substr(0, why.find('\n')).c_str());
    return;
  }
  const std::string big(4 * kMiB, 'b');
  for (const char* name : {"a", "b", "c", "d"}) {
    write_file(scarce.lower(name), big);
  }
  for (const char* name : {"f", "g", "h", "dir/f"}) {
    make_dirs(scarce.lower("dir"));
    write_file(scarce.lower(name), "lower");
  }
  scarce.mount("--io " + io);
  REQUIRE(put(scarce.at("mine"), "mine", O_CREAT) == 0);
  const auto tree = [&] {
    const CommandResult listed = run("tree-manifest --no-dir-nlink " + scarce.root());
    CAPTURE(listed.output);
    REQUIRE(listed.code == 0);
    return listed.output;
  };
  // Copy-ups of which some fit.
  quota.limit(scarce.disk(), 10 * kMiB);
  int refused = 0;
  for (const char* name : {"a", "b", "c", "d"}) {
    const int error = put(scarce.at(name), "B", 0);
    CHECK((error == 0 || error == EDQUOT));
    refused += error == 0 ? 0 : 1;
    CHECK(read_file(scarce.at(name)).substr(1) == big.substr(1));
  }
  CHECK(refused > 0);
  CHECK(refused < 4);
  CHECK(scarce.leftovers().empty());
  // Nothing fits.
  quota.limit(scarce.disk(), 64 * 1024);
  const auto at = [&](const char* name) { return scarce.at(name); };
  const std::vector<std::pair<std::string, std::function<int()>>> changes = {
      {"create", [&] { return put(at("new"), "new", O_CREAT | O_EXCL); }},
      {"mkdir", [&] { return outcome(::mkdir(at("newdir").c_str(), 0755)); }},
      {"symlink", [&] { return outcome(::symlink("to", at("newlink").c_str())); }},
      {"mkfifo", [&] { return outcome(::mkfifo(at("dir/fifo").c_str(), 0644)); }},
      {"truncate", [&] { return outcome(::truncate(at("f").c_str(), 3)); }},
      {"chmod", [&] { return outcome(::chmod(at("g").c_str(), 0600)); }},
      {"setxattr",
       [&] {
         const std::string value(3000, 'v');
         return outcome(::setxattr(at("mine").c_str(), "user.v", value.data(), value.size(), 0));
       }},
      {"link", [&] { return outcome(::link(at("h").c_str(), at("h2").c_str())); }},
      {"rename of a directory",
       [&] { return outcome(::rename(at("dir").c_str(), at("moved").c_str())); }},
      {"rename", [&] { return outcome(::rename(at("h").c_str(), at("h3").c_str())); }},
      {"unlink", [&] { return outcome(::unlink(at("g").c_str())); }},
  };
  for (const auto& [what, change] : changes) {
    CAPTURE(what);
    const std::string before = tree();
    CHECK(change() == EDQUOT);
    CHECK(tree() == before);
  }
  // The kernel has noted the time, and with io=cached the content, before it asks for room.
  CHECK(put(at("mine"), std::string(kMiB, 'm'), O_APPEND) == EDQUOT);
  CHECK(put(at("f"), "upper", O_APPEND) == EDQUOT);
  CHECK(read_file(at("mine")).substr(0, 4) == "mine");
  CHECK(scarce.leftovers().empty());
  quota.limit(scarce.disk(), 0);
  for (const auto& [what, change] : changes) {
    CAPTURE(what);
    CHECK(change() == 0);
  }
  // Linux 6.1 tells that it could not write to whoever opens the file next, too.
  const int late = put(at("mine"), "B", 0);
  CHECK((late == 0 || late == EDQUOT));
  for (const char* name : {"a", "b", "c", "d", "mine"}) {
    CAPTURE(name);
    CHECK(put(scarce.at(name), "B", 0) == 0);
  }
  CHECK(put(at("mine"), "whole", O_TRUNC) == 0);
  const std::string after = tree();
  scarce.unmount();
  scarce.check();
  scarce.mount("--io " + io);
  CHECK(tree() == after);
  CHECK(names_in(scarce.root()) == std::vector<std::string>{"a", "b", "c", "d", "f", "h2", "h3",
                                                            "mine", "moved", "new", "newdir",
                                                            "newlink"});
}

TEST_CASE("an upper that turns read-only makes changes EROFS until it is writable again") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  Scarce scarce;
  scarce.make_tmpfs("size=16m");
  write_file(scarce.lower("f"), "lower");
  write_file(scarce.lower("g"), "lower");
  scarce.mount("--io " + io);
  REQUIRE(put(scarce.at("mine"), "mine", O_CREAT) == 0);
  // The daemon may keep what it has open for writing: that is of the mount before.
  scarce.unmount();
  scarce.mount("--io " + io);
  const auto remount = [&](unsigned long flags) {
    return ::mount(nullptr, scarce.disk().c_str(), nullptr, MS_REMOUNT | MS_BIND | flags, nullptr);
  };
  REQUIRE(remount(MS_RDONLY) == 0);
  CHECK(outcome(::chmod(scarce.at("f").c_str(), 0600)) == EROFS);
  CHECK(outcome(::unlink(scarce.at("g").c_str())) == EROFS);
  CHECK(outcome(::unlink(scarce.at("mine").c_str())) == EROFS);
  CHECK(outcome(::mkdir(scarce.at("dir").c_str(), 0700)) == EROFS);
  CHECK(outcome(::rename(scarce.at("mine").c_str(), scarce.at("other").c_str())) == EROFS);
  CHECK(outcome(::truncate(scarce.at("mine").c_str(), 1)) == EROFS);
  CHECK(names_in(scarce.root()) == std::vector<std::string>{"f", "g", "mine"});
  CHECK(read_file(scarce.at("g")) == "lower");
  CHECK(read_file(scarce.at("mine")) == "mine");
  REQUIRE(remount(0) == 0);
  CHECK(::unlink(scarce.at("g").c_str()) == 0);
  CHECK(put(scarce.at("f"), "upper", O_TRUNC) == 0);
  scarce.unmount();
  scarce.mount("--io " + io);
  CHECK(names_in(scarce.root()) == std::vector<std::string>{"f", "mine"});
  CHECK(read_file(scarce.at("f")) == "upper");
  scarce.unmount();
  scarce.check();
}

TEST_CASE("a mount that lacks descriptors is refused with the reason, or shows every name") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  Scarce scarce;
  scarce.make_tmpfs("size=16m");
  REQUIRE_THROWS_WITH(scarce.mount("--io " + io, "ulimit -n 48; "), Catch::Contains("ulimit -Hn"));
  CHECK(names_in(scarce.disk()) == std::vector<std::string>{"u"});
  constexpr int kDirs = 300;
  for (int i = 0; i < kDirs; ++i) {
    make_dirs(scarce.lower("d" + std::to_string(i)));
    write_file(scarce.lower("d" + std::to_string(i) + "/f"), std::to_string(i));
  }
  scarce.mount("--io " + io, "ulimit -n 64; ");
  CHECK(names_in(scarce.root()).size() == kDirs);
  std::vector<int> open;
  for (int i = 0; i < kDirs; ++i) {
    const std::string path = scarce.at("d" + std::to_string(i) + "/f");
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    // Not "no such file": too many may be open.
    CHECK((fd >= 0 || errno == EMFILE || errno == ENFILE));
    if (fd >= 0) {
      open.push_back(fd);
    }
  }
  for (const int fd : open) {
    ::close(fd);
  }
  const auto read_all = [&] {
    int right = 0;
    for (int i = 0; i < kDirs; ++i) {
      try {
        right += read_file(scarce.at("d" + std::to_string(i) + "/f")) == std::to_string(i) ? 1 : 0;
      } catch (const std::system_error& error) {
        CHECK(error.code().value() == EMFILE);
      }
    }
    return right;
  };
  // A close is told to the daemon when the kernel has time.
  for (int tries = 50; read_all() < kDirs && tries > 0; --tries) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  CHECK(read_all() == kDirs);
  for (int i = 0; i < kDirs; i += 3) {
    CHECK(put(scarce.at("d" + std::to_string(i) + "/f"), "changed", O_TRUNC) == 0);
  }
  scarce.unmount();
  scarce.mount("--io " + io);
  for (int i = 0; i < kDirs; ++i) {
    CHECK(read_file(scarce.at("d" + std::to_string(i) + "/f")) ==
          (i % 3 == 0 ? "changed" : std::to_string(i)));
  }
  scarce.unmount();
  scarce.check();
}

namespace {

int empty_files_below(const std::string& root) {
  int count = 0;
  // Each file's status is asked for.
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
    const struct stat st = stat_of(entry.path());
    count += S_ISREG(st.st_mode) && st.st_size == 0 ? 1 : 0;
  }
  return count;
}

// A walk of so many files by a daemon that may have so much memory.
void walk(int dirs, int files_of_each, std::size_t mebibytes) {
  if (!kernel_is_at_least(6, 18)) {
    SKIP_TEST("before Linux 6.18 the kernel cannot be asked to forget what it has walked");
  }
  Scarce scarce;
  scarce.make_tmpfs("size=64m");
  if (::mount("scarce", scarce.lower("").c_str(), "tmpfs", 0, "size=4g,nr_inodes=2m") < 0) {
    throw_errno("tmpfs");
  }
  for (int i = 0; i < dirs; ++i) {
    const std::string dir = scarce.lower("d" + std::to_string(i));
    make_dirs(dir);
    for (int j = 0; j < files_of_each; ++j) {
      if (::mknod((dir + "/a-file-" + std::to_string(j)).c_str(), S_IFREG | 0644, 0) < 0) {
        throw_errno(dir);
      }
    }
  }
  {
    const MemoryGroup group(mebibytes * kMiB);
    if (!group.is_made()) {
      ::umount2(scarce.lower("").c_str(), MNT_DETACH);
      SKIP_TEST("no cgroup with a limit of memory can be made");
    }
    scarce.mount("--io cached", "echo $$ >" + group.at("cgroup.procs") + " && ");
    const auto begin = std::chrono::steady_clock::now();
    const int found = empty_files_below(scarce.root());
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    std::printf("%d files walked in %.1f s by a daemon that may have %zu MiB; it had %.1f MiB\n",
                dirs * files_of_each, took.count(), mebibytes, group.peak_mebibytes());
    CAPTURE(group.state());
    CHECK(found == dirs * files_of_each);
    CHECK(group.state().find("oom_kill 0\n") != std::string::npos);
    CHECK(put(scarce.at("d0/new"), "new", O_CREAT) == 0);
    scarce.unmount();
  }
  ::umount2(scarce.lower("").c_str(), MNT_DETACH);
}

}  // namespace

TEST_CASE("a daemon lives through a walk of a tree that does not fit into its memory") {
  walk(600, 100, 14);
}

// By name only, for its time: e2e-scarce '[large]'
TEST_CASE("a daemon that may have 64 MiB of memory lives through a walk of 10^6 files",
          "[.][large]") {
  walk(1000, 1000, 64);
}
