// Set-id bits, supplementary groups and sticky directories: the same calls by the same
// users on a plain directory of the same filesystem say what is right.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <map>

#include "tests/testlib/as_user.h"
#include "tests/testlib/test_mount.h"

using namespace layerfs::testing;

namespace {

constexpr uid_t kOwner = 1001;
constexpr gid_t kGroup = 1001;
constexpr gid_t kOtherGroup = 4444;

const User kUsers[] = {
    {0, 0, {}},
    {kOwner, kGroup, {}},
    {kOwner, 1009, {kGroup, kOtherGroup}},  // in both groups, by none of them first
    {kOwner, 1009, {}},                     // owner, not in the file's group
    {1002, 1002, {}},
    {1002, 1002, {kGroup}},
};

using Call = std::function<long(const char* path)>;

long with_open(const char* path, int flags, const std::function<long(int fd)>& call) {
  const int fd = ::open(path, flags | O_CLOEXEC);
  return fd < 0 ? -1 : call(fd);
}

long store_by_mapping(int fd) {
  void* page = ::mmap(nullptr, 1, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (page == MAP_FAILED) {
    return -1;
  }
  *static_cast<volatile char*>(page) = 'M';
  return ::msync(page, 1, MS_SYNC);
}

long copy_range_into(int fd) {
  char name[] = "/var/tmp/layerfs-source-XXXXXX";
  const int source = ::mkstemp(name);
  ::unlink(name);
  return ::write(source, "x", 1) == 1 && ::lseek(source, 0, SEEK_SET) == 0
             ? ::sendfile(fd, source, nullptr, 1)
             : -1;
}

const std::map<std::string, Call> kCalls = {
    {"write",
     [](const char* path) {
       return with_open(path, O_WRONLY, [](int fd) { return ::write(fd, "x", 1); });
     }},
    {"write of nothing",
     [](const char* path) {
       return with_open(path, O_WRONLY, [](int fd) { return ::write(fd, "", 0); });
     }},
    {"append",
     [](const char* path) {
       return with_open(path, O_WRONLY | O_APPEND, [](int fd) { return ::write(fd, "x", 1); });
     }},
    {"splice", [](const char* path) { return with_open(path, O_WRONLY, copy_range_into); }},
    {"mapping", [](const char* path) { return with_open(path, O_RDWR, store_by_mapping); }},
    {"open for writing",
     [](const char* path) { return with_open(path, O_WRONLY, [](int) { return 0L; }); }},
    {"O_TRUNC",
     [](const char* path) { return with_open(path, O_WRONLY | O_TRUNC, [](int) { return 0L; }); }},
    {"truncate", [](const char* path) { return ::truncate(path, 1); }},
    {"ftruncate",
     [](const char* path) {
       return with_open(path, O_WRONLY, [](int fd) { return ::ftruncate(fd, 1); });
     }},
    {"fallocate",
     [](const char* path) {
       return with_open(path, O_WRONLY, [](int fd) { return ::fallocate(fd, 0, 0, 8192); });
     }},
    {"chown of neither", [](const char* path) { return ::chown(path, -1U, -1U); }},
    {"fchown of neither",
     [](const char* path) {
       return with_open(path, O_RDONLY, [](int fd) { return ::fchown(fd, -1U, -1U); });
     }},
    {"chown to the owner it has", [](const char* path) { return ::chown(path, kOwner, -1U); }},
    {"chgrp to another group", [](const char* path) { return ::chown(path, -1U, kOtherGroup); }},
    {"chmod g+s", [](const char* path) { return ::chmod(path, 02775); }},
    {"utimes", [](const char* path) { return ::utimensat(AT_FDCWD, path, nullptr, 0); }},
};

// One file for each call, mode and user.
struct Case {
  std::string name;
  const Call* call;
  mode_t mode;
  const User* user;
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const auto& [what, call] : kCalls) {
    for (const mode_t mode : {06777U, 06755U, 04767U, 02767U, 02677U, 0777U}) {
      for (const User& user : kUsers) {
        char octal[8];
        std::snprintf(octal, sizeof octal, "%05o", mode);
        all.push_back({what + " " + octal + " by " + describe(user), &call, mode, &user});
      }
    }
  }
  return all;
}

void make_files(const std::string& dir, const std::vector<Case>& all) {
  for (const Case& one : all) {
    const std::string path = dir + "/" + one.name;
    write_file(path, "content");
    REQUIRE(::chown(path.c_str(), kOwner, kGroup) == 0);
    REQUIRE(::chmod(path.c_str(), one.mode) == 0);
  }
}

// What there is to see of a directory's entries.
std::string describe_entry(const std::string& path) {
  if (!exists(path)) {
    return "absent";
  }
  const struct stat st = stat_of(path);
  char text[64];
  std::snprintf(text, sizeof text, "%07o %u:%u", st.st_mode, st.st_uid, st.st_gid);
  return text;
}

// Makes each call below both directories, and compares errors and what is left.
void check_same(const std::vector<Case>& all, const std::string& plain, const std::string& there) {
  for (const Case& one : all) {
    INFO(one.name);
    const std::string expected = plain + "/" + one.name;
    const std::string path = there + "/" + one.name;
    const int right = errno_as(*one.user, [&] { return (*one.call)(expected.c_str()); });
    CHECK(errno_as(*one.user, [&] { return (*one.call)(path.c_str()); }) == right);
    CHECK(describe_entry(path) == describe_entry(expected));
  }
}

// A plain directory beside the layers, which every user may reach.
std::string make_plain(const TestMount& mount) {
  const std::string plain = mount.base() + "/plain";
  make_dirs(plain);
  ::chmod(mount.base().c_str(), 0755);
  return plain;
}

}  // namespace

TEST_CASE("set-id bits of a file stay and go by any call of any user as on a plain filesystem",
          "[S-13]") {
  const std::string io = GENERATE(from_range(io_modes()));
  const std::string place = GENERATE("lower", "upper");
  CAPTURE(io, place);
  TestMount mount;
  const std::string plain = make_plain(mount);
  const std::vector<Case> all = cases();
  make_files(plain, all);
  if (place == "lower") {
    make_files(mount.lower(), all);
  }
  mount.mount("--volatile --io " + io);  // hundreds of copy-ups
  if (place == "upper") {
    make_files(mount.at("."), all);
  }
  check_same(all, plain, mount.at("."));
  mount.remount();
  for (const Case& one : all) {
    CAPTURE(one.name);
    CHECK(describe_entry(mount.at(one.name)) == describe_entry(plain + "/" + one.name));
  }
}

TEST_CASE("root's write keeps set-id bits, without CAP_FSETID it drops them") {
  const std::string io = GENERATE(from_range(io_modes()));
  const std::string call =
      GENERATE("printf x >>", "printf x >", "truncate -s 1", "fallocate -l 8192",
               "dd status=none conv=notrunc if=/etc/hostname of=");
  const bool has_capability = GENERATE(true, false);
  CAPTURE(io, call, has_capability);
  TestMount mount;
  const std::string plain = make_plain(mount);
  mount.mount("--io " + io);
  for (const std::string& path : {plain + "/f", mount.at("f")}) {
    write_file(path, "content");
    REQUIRE(::chmod(path.c_str(), 06755) == 0);
    const std::string command = call + (call.back() == '=' ? "" : " ") + path;
    const CommandResult done =
        run(has_capability
                ? command
                : "setpriv --bounding-set=-fsetid --inh-caps=-fsetid sh -c \"" + command + "\"");
    CHECK(done.output.empty());
    CHECK(done.code == 0);
  }
  CHECK(describe_entry(mount.at("f")) == describe_entry(plain + "/f"));
  CHECK((stat_of(mount.at("f")).st_mode & 07777) == (has_capability ? 06755U : 0755U));
}

TEST_CASE("a stranger's chown of neither owner nor group touches no set-id file of another") {
  const std::string io = GENERATE(from_range(io_modes()));
  const mode_t type = GENERATE(S_IFREG, S_IFIFO, S_IFSOCK, S_IFCHR);
  CAPTURE(io, type);
  TestMount mount;
  const std::string plain = make_plain(mount);
  mount.mount("--io " + io);
  const User stranger{1002, 1002, {}};
  for (const std::string& path : {plain + "/f", mount.at("f")}) {
    CAPTURE(path);
    REQUIRE(::mknod(path.c_str(), type | 0600, type == S_IFCHR ? 0x103 : 0) == 0);
    REQUIRE(::chmod(path.c_str(), 06755) == 0);
    CHECK(errno_as(stranger, [&] { return ::chown(path.c_str(), -1U, -1U); }) == EPERM);
    CHECK((stat_of(path).st_mode & 07777) == 06755);
    // A reader who has it open is no writer.
    const int reader = ::open(path.c_str(), O_PATH | O_CLOEXEC);
    CHECK(errno_as(stranger, [&] { return ::chown(path.c_str(), -1U, -1U); }) == EPERM);
    ::close(reader);
    CHECK(::chown(path.c_str(), -1U, -1U) == 0);
    CHECK((stat_of(path).st_mode & 07777) == 0755);
    CHECK(errno_as(stranger, [&] { return ::chown(path.c_str(), -1U, -1U); }) == 0);
  }
}

TEST_CASE("a chown of neither owner nor group changes ctime alone") {
  const std::string io = GENERATE(from_range(io_modes()));
  const mode_t type = GENERATE(S_IFREG, S_IFDIR, S_IFIFO, S_IFLNK);
  CAPTURE(io, type);
  TestMount mount;
  mount.mount("--io " + io);
  const std::string path = mount.at("f");
  REQUIRE((type == S_IFDIR   ? ::mkdir(path.c_str(), 0755)
           : type == S_IFLNK ? ::symlink("target", path.c_str())
                             : ::mknod(path.c_str(), type | 0644, 0)) == 0);
  const struct stat before = stat_of(path);
  ::usleep(20000);  // beyond the clock of the filesystem's times
  REQUIRE(::lchown(path.c_str(), -1U, -1U) == 0);
  for (int pass = 0; pass < 2; ++pass) {
    const struct stat after = stat_of(path);
    CHECK((after.st_ctim.tv_sec != before.st_ctim.tv_sec ||
           after.st_ctim.tv_nsec != before.st_ctim.tv_nsec));
    CHECK(after.st_mtim.tv_sec == before.st_mtim.tv_sec);
    CHECK(after.st_mtim.tv_nsec == before.st_mtim.tv_nsec);
    CHECK(after.st_mode == before.st_mode);
    mount.remount();
  }
}

TEST_CASE("what is made in a setgid directory has the group, type and bits of a plain one's") {
  const std::string io = GENERATE(from_range(io_modes()));
  const std::string place = GENERATE("lower", "upper");
  CAPTURE(io, place);
  TestMount mount;
  const std::string plain = make_plain(mount);
  const auto make_setgid = [](const std::string& dir) {
    make_dirs(dir);
    REQUIRE(::chown(dir.c_str(), 0, kOtherGroup) == 0);
    REQUIRE(::chmod(dir.c_str(), 02777) == 0);
  };
  make_setgid(plain + "/d");
  if (place == "lower") {
    make_setgid(mount.lower() + "/d");
  }
  mount.mount("--io " + io);
  if (place == "upper") {
    make_setgid(mount.at("d"));
  }
  const std::map<std::string, Call> makers = {
      {"file", [](const char* path) { return ::open(path, O_CREAT | O_EXCL | O_WRONLY, 06777); }},
      {"file without execute",
       [](const char* path) { return ::open(path, O_CREAT | O_EXCL | O_WRONLY, 02666); }},
      {"directory", [](const char* path) { return ::mkdir(path, 0777); }},
      {"FIFO", [](const char* path) { return ::mkfifo(path, 02777); }},
      {"socket", [](const char* path) { return ::mknod(path, S_IFSOCK | 02777, 0); }},
      {"symlink", [](const char* path) { return ::symlink("x", path); }},
      {"nameless file", [](const char* path) -> long {
         const std::string dir = std::string(path).substr(0, std::string(path).rfind('/'));
         const int fd = ::open(dir.c_str(), O_TMPFILE | O_WRONLY, 06777);
         const std::string self = "/proc/self/fd/" + std::to_string(fd);
         return fd < 0 ? -1 : ::linkat(AT_FDCWD, self.c_str(), AT_FDCWD, path, AT_SYMLINK_FOLLOW);
       }}};
  for (const auto& [what, make] : makers) {
    for (const User& user : {User{0, 0, {}}, User{1002, 1002, {}}, User{1002, 1002, {kOtherGroup}},
                             User{1002, kOtherGroup, {}}}) {
      const std::string name = "/d/" + what + " by " + describe(user);
      INFO(name);
      const std::string path = mount.at(name);
      const int right = errno_as(user, [&] {
        ::umask(0);
        return make((plain + name).c_str());
      });
      CHECK(errno_as(user, [&] {
              ::umask(0);
              return make(path.c_str());
            }) == right);
      CHECK(describe_entry(path) == describe_entry(plain + name));
    }
  }
  const auto names = names_in(plain + "/d");
  mount.remount();
  CHECK(names_in(mount.at("d")) == names);
  for (const std::string& name : names) {
    CAPTURE(name);
    CHECK(describe_entry(mount.at("d/" + name)) == describe_entry(plain + "/d/" + name));
  }
}

TEST_CASE("in a sticky directory only the owner of file or directory takes a name away") {
  const std::string io = GENERATE(from_range(io_modes()));
  const std::string place = GENERATE("lower", "upper");
  CAPTURE(io, place);
  TestMount mount;
  const std::string plain = make_plain(mount);
  const auto make_sticky = [](const std::string& dir) {
    make_dirs(dir);
    REQUIRE(::chmod(dir.c_str(), 01777) == 0);
    for (const char* name : {"unlink", "rename", "over", "mine", "rmdir"}) {
      const std::string path = dir + "/" + name;
      std::string_view(name) == "rmdir" ? make_dirs(path) : write_file(path, "x");
      REQUIRE(::chown(path.c_str(), std::string_view(name) == "mine" ? 1002 : kOwner, kGroup) == 0);
    }
  };
  make_sticky(plain + "/d");
  if (place == "lower") {
    make_sticky(mount.lower() + "/d");
  }
  mount.mount("--io " + io);
  if (place == "upper") {
    make_sticky(mount.at("d"));
  }
  const std::map<std::string, std::function<long()>> calls = {
      {"unlink", [] { return ::unlink("unlink"); }},
      {"rename", [] { return ::rename("rename", "elsewhere"); }},
      {"over", [] { return ::rename("mine", "over"); }},
      {"rmdir", [] { return ::rmdir("rmdir"); }},
      {"link", [] { return ::link("mine", "link"); }},
      {"own", [] { return ::rename("mine", "renamed"); }},
      {"own unlink", [] { return ::unlink("renamed"); }}};
  for (const User& user : {User{1002, 1002, {kGroup}}, User{kOwner, kGroup, {}}}) {
    for (const auto& [what, call] : calls) {
      CAPTURE(what, describe(user));
      const auto in = [&call = call](const std::string& dir) {
        return [&call, dir] { return ::chdir(dir.c_str()) < 0 ? -1 : call(); };
      };
      CHECK(errno_as(user, in(mount.at("d"))) == errno_as(user, in(plain + "/d")));
    }
    CHECK(names_in(mount.at("d")) == names_in(plain + "/d"));
  }
}

TEST_CASE("a set-user-ID program runs as its owner, and no longer after a write") {
  const std::string io = GENERATE(from_range(io_modes()));
  const std::string place = GENERATE("lower", "upper");
  CAPTURE(io, place);
  TestMount mount;
  make_plain(mount);
  const auto make_program = [](const std::string& path) {
    write_file(path, read_file("/usr/bin/id"));
    REQUIRE(::chown(path.c_str(), kOwner, kGroup) == 0);
    REQUIRE(::chmod(path.c_str(), 04777) == 0);
  };
  if (place == "lower") {
    make_program(mount.lower() + "/id");
  }
  mount.mount("--io " + io);
  if (place == "upper") {
    make_program(mount.at("id"));
  }
  const std::string as_user = "setpriv --reuid 1002 --regid 1002 --clear-groups ";
  CHECK(run(as_user + mount.at("id") + " -u").output == std::to_string(kOwner) + "\n");
  CHECK(run(as_user +
            "dd status=none oflag=append conv=notrunc if=/etc/hostname of=" + mount.at("id"))
            .code == 0);
  CHECK(run(as_user + mount.at("id") + " -u").output == "1002\n");
}
