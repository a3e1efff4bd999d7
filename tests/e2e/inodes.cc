// Inode numbers as programs see them.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <map>
#include <set>

#include "tests/testlib/test_mount.h"

using namespace layerfs::testing;

namespace {

const std::vector<std::string> kObjects = {"file",    "links/a", "dir",    "dir/in",
                                           "symlink", "fifo",    "device", "links"};

void populate(const std::string& dir) {
  write_file(dir + "/file", "data");
  make_dirs(dir + "/dir");
  write_file(dir + "/dir/in", "data");
  make_dirs(dir + "/links");
  write_file(dir + "/links/a", "data");
  REQUIRE(::link((dir + "/links/a").c_str(), (dir + "/links/b").c_str()) == 0);
  REQUIRE(::symlink("target", (dir + "/symlink").c_str()) == 0);
  REQUIRE(::mkfifo((dir + "/fifo").c_str(), 0644) == 0);
  REQUIRE(::mknod((dir + "/device").c_str(), S_IFCHR | 0644, makedev(1, 3)) == 0);
}

std::map<std::string, ino_t> numbers(const TestMount& mount) {
  std::map<std::string, ino_t> all;
  for (const std::string& object : kObjects) {
    all[object] = stat_of(mount.at(object)).st_ino;
  }
  return all;
}

// What readdir says, "." and ".." too.
std::map<std::string, ino_t> listed_numbers(const std::string& path) {
  std::map<std::string, ino_t> all;
  DIR* dir = ::opendir(path.c_str());
  REQUIRE(dir != nullptr);
  while (const dirent* entry = ::readdir(dir)) {
    all[entry->d_name] = entry->d_ino;
  }
  ::closedir(dir);
  return all;
}

void check_listed_numbers(const TestMount& mount, const std::string& dir) {
  const std::string path = mount.at(dir);
  for (const auto& [name, ino] : listed_numbers(path)) {
    if (dir.empty() && name == "..") {
      continue;  // to lstat it is outside of the mount
    }
    CAPTURE(path, name);
    CHECK(stat_of(path + "/" + name).st_ino == ino);
  }
}

}  // namespace

TEST_CASE("st_ino is the same before and after copy-up and in the next mount", "[S-07]") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  TestMount mount(2);
  populate(mount.lower(GENERATE(0, 1)));
  mount.mount("--io " + io);
  const auto before = numbers(mount);
  const int held = ::open(mount.at("file").c_str(), O_RDONLY | O_CLOEXEC);
  REQUIRE(held >= 0);
  SECTION("by a change of attributes") {
    for (const std::string& object : kObjects) {
      REQUIRE(::lchown(mount.at(object).c_str(), 12, 34) == 0);
    }
  }
  SECTION("by writing") {
    for (const char* file : {"file", "links/b", "dir/in"}) {
      write_file(mount.at(file), "new");
    }
  }
  SECTION("by renaming there and back") {
    for (const char* object : {"file", "dir", "fifo", "symlink", "links/a"}) {
      CAPTURE(object);
      REQUIRE(::rename(mount.at(object).c_str(), mount.at("moved").c_str()) == 0);
      CHECK(stat_of(mount.at("moved")).st_ino == before.at(object));
      REQUIRE(::rename(mount.at("moved").c_str(), mount.at(object).c_str()) == 0);
    }
  }
  CHECK(numbers(mount) == before);
  struct stat st = {};
  CHECK(::fstat(held, &st) == 0);
  CHECK(st.st_ino == before.at("file"));
  ::close(held);
  CHECK(stat_of(mount.at("links/b")).st_ino == before.at("links/a"));
  mount.remount();
  CHECK(numbers(mount) == before);
  CHECK(stat_of(mount.at("links/b")).st_ino == before.at("links/a"));
}

TEST_CASE("d_ino is st_ino, also of . and .., before and after copy-up and rename") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  TestMount mount(2);
  populate(mount.lower(1));
  make_dirs(mount.lower(0) + "/dir/sub/deep");
  mount.mount("--io " + io);
  const auto check_all = [&] {
    for (const char* dir : {"", "dir", "dir/sub", "dir/sub/deep", "links"}) {
      check_listed_numbers(mount, dir);
    }
  };
  check_all();
  write_file(mount.at("dir/sub/new"), "");
  REQUIRE(::chmod(mount.at("dir/in").c_str(), 0600) == 0);
  write_file(mount.at("links/a"), "new");
  check_all();
  mount.remount();
  check_all();
  check_listed_numbers(mount, "dir/sub/deep");
  REQUIRE(::rename(mount.at("dir/sub/deep").c_str(), mount.at("deep").c_str()) == 0);
  check_listed_numbers(mount, "deep");  // another ".."
  REQUIRE(::renameat2(AT_FDCWD, mount.at("links").c_str(), AT_FDCWD, mount.at("deep").c_str(),
                      RENAME_EXCHANGE) == 0);
  check_listed_numbers(mount, "links");
  check_listed_numbers(mount, "deep");
  mount.remount();
  check_listed_numbers(mount, "links");
  check_listed_numbers(mount, "");
}

TEST_CASE("st_nlink of a directory is 2 and its subdirectories of all layers", "[S-09]") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  TestMount mount(2);
  make_dirs(mount.lower(0) + "/d/a");
  make_dirs(mount.lower(1) + "/d/b");
  make_dirs(mount.lower(1) + "/d/a");
  mount.mount("--io " + io);
  const auto links = [&] { return stat_of(mount.at("d")).st_nlink; };
  CHECK(links() == 4);
  make_dirs(mount.at("d/c"));
  CHECK(links() == 5);
  REQUIRE(::rmdir(mount.at("d/b").c_str()) == 0);
  CHECK(links() == 4);
  REQUIRE(::rename(mount.at("d/a").c_str(), mount.at("moved").c_str()) == 0);
  CHECK(links() == 3);
  mount.remount();
  CHECK(links() == 3);
}

TEST_CASE("objects of all layers have different st_ino and one st_dev") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  TestMount mount(3);
  for (int layer = 0; layer < 3; ++layer) {
    const std::string dir = mount.lower(static_cast<std::size_t>(layer));
    make_dirs(dir + "/shared");
    for (int i = 0; i < 50; ++i) {
      write_file(dir + "/shared/" + std::to_string(layer) + "_" + std::to_string(i), "");
    }
  }
  mount.mount("--io " + io);
  for (int i = 0; i < 50; ++i) {
    write_file(mount.at("shared/u" + std::to_string(i)), "");
    write_file(mount.at("shared/1_" + std::to_string(i)), "copied up");
  }
  for (int pass = 0; pass < 2; ++pass) {
    std::set<ino_t> seen;
    const dev_t device = stat_of(mount.at("")).st_dev;
    for (const std::string& name : names_in(mount.at("shared"))) {
      const struct stat st = stat_of(mount.at("shared/" + name));
      CHECK(st.st_dev == device);
      CHECK(seen.insert(st.st_ino).second);
    }
    CHECK(seen.size() == 200);
    mount.remount();
  }
}

TEST_CASE("lowers on different filesystems whose numbers are equal have different st_ino") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  TestMount mount(3);
  for (const std::size_t layer : {0U, 1U}) {
    REQUIRE(run("mount -t tmpfs none " + mount.lower(layer)).code == 0);
  }
  std::set<ino_t> stored;
  for (const std::size_t layer : {0U, 1U}) {
    for (int i = 0; i < 20; ++i) {
      const std::string file =
          mount.lower(layer) + "/" + std::to_string(layer) + "_" + std::to_string(i);
      write_file(file, "");
      stored.insert(stat_of(file).st_ino);
    }
  }
  CHECK(stored.size() < 40);
  try {
    mount.mount("--io " + io);
    const auto shown = [&] {
      std::map<std::string, ino_t> all;
      for (const std::string& name : names_in(mount.at(""))) {
        const struct stat st = stat_of(mount.at(name));
        CHECK(st.st_dev == stat_of(mount.at("")).st_dev);
        all[name] = st.st_ino;
      }
      return all;
    };
    const auto before = shown();
    std::set<ino_t> different;
    for (const auto& [name, ino] : before) {
      different.insert(ino);
    }
    CHECK(different.size() == 40);
    check_listed_numbers(mount, "");
    for (const auto& [name, ino] : before) {
      REQUIRE(::chmod(mount.at(name).c_str(), 0600) == 0);
    }
    CHECK(shown() == before);
    check_listed_numbers(mount, "");
    mount.remount();
    CHECK(shown() == before);
    mount.unmount();
  } catch (const std::exception& error) {
    FAIL_CHECK(error.what());
  }
  for (const std::size_t layer : {0U, 1U}) {
    CHECK(run("umount -l " + mount.lower(layer)).code == 0);
  }
}
