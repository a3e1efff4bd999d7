// Stands in for layerfsd: speaks the two pipes, the control socket and as much FUSE as an
// empty directory needs, and misbehaves on request. The name of the source ("fsname") in
// the configuration chooses what it does:
//   ok        mounts, goes into the background (or stays), serves until unmounted
//   linger    as ok, and lives on for three seconds after the unmount
//   refuse    says why not
//   silent    exits with code 3 without a word
//   crash     is ended by a signal
//   garbage   says something that is no status
//   liar      says that it is mounted, and is not; lives on in the background
//   dead      mounts, says so, and dies at once
//   stuck     lives in the background and never says a word
// Where `log_file` is set, the number of the process that stays is written there.
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>
#include <utility>

#include "layers/mount_config.h"
#include "layers/sys/unique_fd.h"
#include "tools/common/control_client.h"
#include "tools/common/mount_table.h"

namespace {

using layerfs::MountConfig;

std::string read_all(int fd) {
  std::string out;
  std::array<char, 4096> buffer{};
  for (ssize_t n = 0; (n = ::read(fd, buffer.data(), buffer.size())) > 0;) {
    out.append(buffer.data(), static_cast<std::size_t>(n));
  }
  return out;
}

void say(int fd, const std::string& text) {
  if (::write(fd, text.data(), text.size()) < 0) {
    ::_exit(9);
  }
}

void go_into_background() {
  ::setsid();
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int fd = 0; fd < 3; ++fd) {
    ::dup2(null, fd);
  }
}

int mount_fuse(const MountConfig& config) {
  const int fuse = ::open("/dev/fuse", O_RDWR | O_CLOEXEC);
  const std::string options = "fd=" + std::to_string(fuse) + ",rootmode=40000,user_id=0,group_id=0";
  if (fuse < 0 || ::mount(config.fsname.c_str(), config.mountpoint.c_str(), "fuse.layerfs",
                          MS_NOSUID | MS_NODEV, options.c_str()) < 0) {
    return -1;
  }
  return fuse;
}

// A request that was interrupted meanwhile may refuse its answer.
void send_to_kernel(int fuse, const void* reply, std::size_t size) {
  if (::write(fuse, reply, size) < 0 && errno != ENOENT) {
    ::_exit(9);
  }
}

template <class Body>
void answer(int fuse, std::uint64_t unique, const Body& body) {
  struct {
    fuse_out_header header;
    Body body;
  } reply{};
  reply.header.len = sizeof reply.header + sizeof body;
  reply.header.unique = unique;
  reply.body = body;
  send_to_kernel(fuse, &reply, sizeof reply);
}

void answer_error(int fuse, std::uint64_t unique, int error) {
  fuse_out_header header{};
  header.len = sizeof header;
  header.unique = unique;
  header.error = -error;
  send_to_kernel(fuse, &header, sizeof header);
}

// False once the mount is gone.
bool serve_one(int fuse) {
  alignas(fuse_in_header) static std::array<char, 1 << 20> buffer;
  const ssize_t size = ::read(fuse, buffer.data(), buffer.size());
  if (size < 0) {
    return errno != ENODEV;
  }
  fuse_in_header in{};
  std::memcpy(&in, buffer.data(), sizeof in);
  switch (in.opcode) {
    case FUSE_INIT: {
      fuse_init_out out{};
      out.major = FUSE_KERNEL_VERSION;
      out.minor = 31;
      out.max_write = 65536;
      answer(fuse, in.unique, out);
      break;
    }
    case FUSE_GETATTR: {
      fuse_attr_out out{};
      out.attr.ino = 1;
      out.attr.mode = S_IFDIR | 0755;
      out.attr.nlink = 2;
      answer(fuse, in.unique, out);
      break;
    }
    case FUSE_STATFS:
      answer(fuse, in.unique, fuse_statfs_out{});
      break;
    case FUSE_OPENDIR:
      answer(fuse, in.unique, fuse_open_out{});
      break;
    case FUSE_READDIR:
      answer_error(fuse, in.unique, 0);
      break;
    case FUSE_LOOKUP:
      answer_error(fuse, in.unique, ENOENT);
      break;
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
      break;
    default:
      answer_error(fuse, in.unique, ENOSYS);
  }
  return true;
}

int listen_on(const std::string& mountpoint) {
  const auto located = layerfs::locate(mountpoint, layerfs::LastComponent::Follow);
  if (!located) {
    return -1;
  }
  const std::string name = layerfs::control_socket_name(located->mount.major, located->mount.minor);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  name.copy(&address.sun_path[1], sizeof address.sun_path - 1);
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (::bind(fd, reinterpret_cast<sockaddr*>(&address),
             static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size())) < 0 ||
      ::listen(fd, 8) < 0) {
    return -1;
  }
  return fd;
}

void serve_control(int listener) {
  const layerfs::UniqueFd owner(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
  const int peer = owner.get();
  std::string request;
  std::array<char, 4096> buffer{};
  while (request.find('\n') == std::string::npos) {
    const ssize_t n = ::read(peer, buffer.data(), buffer.size());
    if (n <= 0) {
      break;
    }
    request.append(buffer.data(), static_cast<std::size_t>(n));
  }
  const std::string pid = std::to_string(::getpid());
  if (request.find("\"pid\"") != std::string::npos) {
    say(peer, "{\"pid\":" + pid + "}\n");
  } else if (request.find("\"stats\"") != std::string::npos) {
    say(peer, "{\"version\":\"0.1.0\",\"pid\":" + pid +
                  ",\"mountpoint\":\"/m\",\"uptime_s\":61.5,\"requests\":{\"LOOKUP\":{\"count\":4,"
                  "\"errors\":1,\"total_us\":80,\"histogram_us\":[[16,1],[32,3]]}}}\n");
  } else if (request.find("\"/there\"") != std::string::npos) {
    say(peer,
        "{\"path\":\"/there\",\"type\":\"file\",\"provider\":{\"layer\":\"upper\",\"path\":\"/u/"
        "there\"},\"below\":[{\"layer\":\"lower[1]\",\"path\":\"/l/there\",\"kind\":\"hidden "
        "file\"}]}\n");
  } else {
    say(peer, "{\"error\":\"ENOENT\",\"message\":\"No such file or directory\"}\n");
  }
}

void note_pid(const MountConfig& config) {
  if (!config.log_file.empty()) {
    std::ofstream(config.log_file) << ::getpid() << '\n';
  }
}

int run_mount(const MountConfig& config, layerfs::UniqueFd status) {
  if (!config.foreground) {
    go_into_background();
  }
  note_pid(config);
  const int fuse = mount_fuse(config);
  if (fuse < 0) {
    say(status.get(), "{\"ok\":false,\"message\":\"the kernel refuses to mount\"}\n");
    return 1;
  }
  serve_one(fuse);  // INIT
  const int listener = listen_on(config.mountpoint);
  struct statx st {};
  ::statx(AT_FDCWD, config.mountpoint.c_str(), AT_STATX_DONT_SYNC, 0, &st);
  say(status.get(), "{\"ok\":true,\"pid\":" + std::to_string(::getpid()) + ",\"device\":" +
                        std::to_string(makedev(st.stx_dev_major, st.stx_dev_minor)) + "}\n");
  status.reset();
  for (bool mounted = config.fsname != "dead"; mounted;) {
    std::array<pollfd, 2> items{{{fuse, POLLIN, 0}, {listener, POLLIN, 0}}};
    ::poll(items.data(), items.size(), -1);
    if (items[0].revents != 0) {
      mounted = serve_one(fuse);
    }
    if (items[1].revents != 0) {
      serve_control(listener);
    }
  }
  ::close(listener);  // another test's mount may have the device number now
  if (config.fsname == "linger") {
    ::usleep(3'000'000);
  }
  return 0;
}

int live_on(const MountConfig& config, const std::string& word, int status) {
  go_into_background();
  note_pid(config);
  say(status, word);
  ::pause();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5 || std::string(argv[1]) != "--config-fd" || std::string(argv[3]) != "--status-fd") {
    return 2;
  }
  layerfs::UniqueFd status(std::stoi(argv[4]));
  std::string why;
  const auto config = layerfs::parse_mount_config(read_all(std::stoi(argv[2])), why);
  if (!config) {
    say(status.get(), "{\"ok\":false,\"message\":\"bad configuration\"}\n");
    return 1;
  }
  const std::string& what = config->fsname;
  if (what == "refuse") {
    say(status.get(), "{\"ok\":false,\"message\":\"'/l' is not a directory; name one\"}\n");
    return 1;
  }
  if (what == "silent") {
    return 3;
  }
  if (what == "crash") {
    ::raise(SIGKILL);
  }
  if (what == "garbage") {
    say(status.get(), "hello\n");
    return 0;
  }
  if (what == "liar") {
    return live_on(*config, "{\"ok\":true,\"pid\":1,\"device\":1}\n", status.get());
  }
  if (what == "stuck") {
    return live_on(*config, "", status.get());
  }
  return run_mount(*config, std::move(status));
}
