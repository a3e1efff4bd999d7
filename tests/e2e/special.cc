// Devices, FIFOs, sockets, and names that are long, deep or no text.
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstring>

#include "tests/testlib/twin.h"

using namespace layerfs::testing;

namespace {

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {
    if (fd < 0) {
      throw_errno("descriptor");
    }
  }
  ~Descriptor() { ::close(fd_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

void copy_up(const TestMount& mount, const std::string& name) {
  REQUIRE(::chmod(mount.at(name).c_str(), 0600) == 0);
}

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  REQUIRE(path.size() < sizeof address.sun_path);
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

bool connects(const std::string& path) {
  const Descriptor client(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_un address = address_of(path);
  return ::connect(client.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

Descriptor listen_at(const std::string& path) {
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_un address = address_of(path);
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0 ||
      ::listen(fd, 5) < 0) {
    throw_errno(path);
  }
  return Descriptor(fd);
}

}  // namespace

TEST_CASE("a device works through the mount, before and after copy-up and in the upper") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  TestMount mount;
  REQUIRE(::mknod((mount.lower() + "/zero").c_str(), S_IFCHR | 0666, makedev(1, 5)) == 0);
  mount.mount("--io " + io);
  const auto works = [&](const std::string& name) {
    const Descriptor device(::open(mount.at(name).c_str(), O_RDWR | O_CLOEXEC));
    char bytes[4] = {1, 1, 1, 1};
    CHECK(::read(device.get(), bytes, 4) == 4);
    CHECK(std::string(bytes, 4) == std::string(4, '\0'));
    CHECK(::write(device.get(), "x", 1) == 1);
  };
  works("zero");
  CHECK(names_in(mount.upper()).empty());  // what a device is written goes elsewhere
  copy_up(mount, "zero");
  works("zero");
  REQUIRE(::mknod(mount.at("new").c_str(), S_IFCHR | 0600, makedev(1, 5)) == 0);
  works("new");
  mount.remount();
  works("zero");
  works("new");
  CHECK(stat_of(mount.at("zero")).st_rdev == makedev(1, 5));
}

TEST_CASE("a FIFO carries what is written, also between those who opened it before copy-up") {
  const std::string io = GENERATE(from_range(io_modes()));
  const bool in_lower = GENERATE(true, false);
  CAPTURE(io, in_lower);
  TestMount mount;
  if (in_lower) {
    REQUIRE(::mkfifo((mount.lower() + "/fifo").c_str(), 0644) == 0);
  }
  mount.mount("--io " + io);
  if (!in_lower) {
    REQUIRE(::mkfifo(mount.at("fifo").c_str(), 0644) == 0);
  }
  const auto open = [&](int flags) { return ::open(mount.at("fifo").c_str(), flags | O_CLOEXEC); };
  const Descriptor reader(open(O_RDONLY | O_NONBLOCK));
  const auto carries = [&] {
    const Descriptor writer(open(O_WRONLY));
    char bytes[8] = {};
    CHECK(::write(writer.get(), "hello", 5) == 5);
    CHECK(::read(reader.get(), bytes, sizeof bytes) == 5);
    CHECK(std::string(bytes) == "hello");
  };
  carries();
  copy_up(mount, "fifo");
  carries();
  REQUIRE(::rename(mount.at("fifo").c_str(), mount.at("moved").c_str()) == 0);
  REQUIRE(::rename(mount.at("moved").c_str(), mount.at("fifo").c_str()) == 0);
  carries();
}

TEST_CASE("a socket bound on the mount is connected to, also after copy-up of its name", "[S-20]") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  TestMount mount;
  make_dirs(mount.lower() + "/run");
  const Descriptor stale = listen_at(mount.lower() + "/stale");
  mount.mount("--io " + io);
  const Descriptor server = listen_at(mount.at("run/s"));
  CHECK(S_ISSOCK(stat_of(mount.at("run/s")).st_mode));
  CHECK(connects(mount.at("run/s")));
  copy_up(mount, "run/s");
  REQUIRE(::rename(mount.at("run/s").c_str(), mount.at("run/t").c_str()) == 0);
  CHECK(connects(mount.at("run/t")));
  CHECK_FALSE(connects(mount.at("run/s")));
  // Whoever bound the name in the layer itself is not reached through the mount.
  CHECK_FALSE(connects(mount.at("stale")));
  CHECK(errno == ECONNREFUSED);
  copy_up(mount, "stale");
  CHECK(S_ISSOCK(stat_of(mount.at("stale")).st_mode));
  CHECK(::unlink(mount.at("run/t").c_str()) == 0);
  const Descriptor again = listen_at(mount.at("run/t"));
  CHECK(connects(mount.at("run/t")));
}

TEST_CASE("names of 255 bytes of any kind are made, found, deleted; longer ones are refused") {
  const std::string io = GENERATE(from_range(io_modes()));
  const std::string form = GENERATE("overlay", "oci");
  CAPTURE(io, form);
  // A whiteout by name takes four bytes of the name.
  const std::size_t longest = form == "oci" ? 251 : 255;
  std::string bytes;
  for (int byte = 1; byte < 256; ++byte) {
    if (byte != '/') {
      bytes.push_back(static_cast<char>(byte));
    }
  }
  const std::vector<std::string> names = {std::string(longest, 'n'),
                                          bytes.substr(0, longest),
                                          "\xff\xfe not UTF-8",
                                          "\n",
                                          " ",
                                          "...",
                                          "-rf",
                                          "*",
                                          ".wh",
                                          "wh."};
  TestMount mount;
  for (std::size_t i = 0; i < names.size(); i += 2) {
    write_file(mount.lower() + "/" + names[i], "lower");
  }
  mount.mount("--io " + io + " --whiteout " + form);
  for (const std::string& name : names) {
    write_file(mount.at(name), "content");
  }
  mount.remount();
  CHECK(names_in(mount.at("")).size() == names.size());
  for (const std::string& name : names) {
    CAPTURE(name);
    CHECK(read_file(mount.at(name)) == "content");
    REQUIRE(::rename(mount.at(name).c_str(), mount.at("short").c_str()) == 0);
    REQUIRE(::rename(mount.at("short").c_str(), mount.at(name).c_str()) == 0);
    CHECK(::unlink(mount.at(name).c_str()) == 0);
    CHECK_FALSE(exists(mount.at(name)));
  }
  CHECK(names_in(mount.at("")).empty());
  mount.remount();
  CHECK(names_in(mount.at("")).empty());
  CHECK(outcome(::mkdir(mount.at(std::string(256, 'n')).c_str(), 0755)) ==
        Outcome{-1, ENAMETOOLONG});
  CHECK(outcome(::access(mount.at(std::string(256, 'n')).c_str(), F_OK)) ==
        Outcome{-1, ENAMETOOLONG});
}

TEST_CASE("a tree deeper than PATH_MAX is walked, changed and deleted by descent") {
  const std::string io = GENERATE(from_range(io_modes()));
  CAPTURE(io);
  constexpr int kDepth = 40;  // of names of 200 bytes
  const std::string name(200, 'd');
  TestMount mount;
  const auto descend = [&](const std::string& root, bool make) {
    int dir = ::open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
    for (int level = 0; level < kDepth && dir >= 0; ++level) {
      if (make) {
        REQUIRE(::mkdirat(dir, name.c_str(), 0755) == 0);
      }
      const int next = ::openat(dir, name.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
      ::close(dir);
      dir = next;
    }
    if (dir < 0) {
      throw_errno(root);
    }
    return dir;
  };
  {
    const Descriptor bottom(descend(mount.lower(), true));
    const Descriptor file(::openat(bottom.get(), "f", O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
    REQUIRE(::write(file.get(), "deep", 4) == 4);
  }
  mount.mount("--io " + io);
  for (int pass = 0; pass < 2; ++pass) {
    {
      const Descriptor bottom(descend(mount.at(""), false));
      const Descriptor file(::openat(bottom.get(), "f", O_RDWR | O_APPEND | O_CLOEXEC, 0644));
      CHECK(::write(file.get(), "er", 2) == 2);
      char content[16] = {};
      CHECK(::pread(file.get(), content, sizeof content, 0) == 6 + 2 * pass);
      CHECK(std::string(content).substr(0, 6) == "deeper");
      CHECK(::renameat(bottom.get(), "f", bottom.get(), "g") == 0);
      CHECK(::renameat(bottom.get(), "g", bottom.get(), "f") == 0);
      struct stat st = {};
      CHECK(::fstatat(bottom.get(), "f", &st, 0) == 0);
      CHECK(st.st_size == 6 + 2 * pass);
    }
    mount.remount();
  }
  CHECK(run("rm -rf " + mount.at(name)).code == 0);
  CHECK(names_in(mount.at("")).empty());
  mount.remount();
  CHECK(names_in(mount.at("")).empty());
}
