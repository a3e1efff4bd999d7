#include "tools/common/control_client.h"

#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "layers/sys/unique_fd.h"

namespace layerfs {
namespace {

// A stats document of a busy mount is some tens of KiB.
constexpr std::size_t kMostBytes = 64U << 20;

// A FUSE mount whose daemon has died answers every call with ENOTCONN.
bool is_not_connected(const MountEntry& mount) {
  struct statfs unused {};
  return ::statfs(mount.mount_point.c_str(), &unused) < 0 && errno == ENOTCONN;
}

Problem gone(const MountEntry& mount) {
  return failed("'" + mount.mount_point +
                "': its daemon is gone; remove the mount with 'layerfs umount " +
                mount.mount_point + "'");
}

Problem refused(const MountEntry& mount) {
  return failed("'" + mount.mount_point + "': its daemon refuses to answer user " +
                std::to_string(::geteuid()) + "; ask as root or as the user who mounted it");
}

Problem no_answer(const MountEntry& mount, int error) {
  if (error == EAGAIN || error == EWOULDBLOCK) {
    return failed("'" + mount.mount_point +
                  "': its daemon does not answer; look at its log, or detach the mount with "
                  "'layerfs umount --lazy " +
                  mount.mount_point + "'");
  }
  if (error == ECONNRESET || error == EPIPE) {
    // The server closes without a word on a peer it may not answer.
    return daemon_is_dead(mount) ? gone(mount) : refused(mount);
  }
  return failed("'" + mount.mount_point +
                "': no answer from the daemon: " + describe(Errno(error)));
}

Problem no_daemon(const MountEntry& mount, int error) {
  if (error == EAGAIN) {
    return no_answer(mount, error);
  }
  if (error != ECONNREFUSED) {
    return failed("'" + mount.mount_point +
                  "': cannot reach the daemon: " + describe(Errno(error)));
  }
  if (daemon_is_dead(mount)) {
    return gone(mount);
  }
  return failed("'" + mount.mount_point +
                "': its daemon does not listen here; ask from the network namespace it was "
                "mounted in");
}

Outcome<UniqueFd> connect_to(const MountEntry& mount, std::chrono::milliseconds patience) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) {
    return failed("cannot make a socket: " + describe(Errno::last()));
  }
  const std::string name = control_socket_name(mount.major, mount.minor);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  name.copy(&address.sun_path[1], sizeof address.sun_path - 1);
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(patience);
  const timeval timeout{seconds.count(), std::chrono::microseconds(patience - seconds).count()};
  if (::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) < 0 ||
      ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout) < 0 ||
      ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), length) < 0) {
    return no_daemon(mount, errno);
  }
  return fd;
}

Outcome<pid_t> trusted_peer(int fd, const MountEntry& mount) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0) {
    return no_answer(mount, errno);
  }
  if (peer.uid != 0 && peer.uid != ::geteuid() && peer.uid != mount_owner(mount)) {
    return failed("'" + mount.mount_point + "': the daemon's address is held by user " +
                  std::to_string(peer.uid) + ", who did not make this mount; not asking");
  }
  return peer.pid;
}

Outcome<void> send_all(int fd, const MountEntry& mount, const std::string& line) {
  for (std::size_t sent = 0; sent < line.size();) {
    const ssize_t count = ::send(fd, line.data() + sent, line.size() - sent, MSG_NOSIGNAL);
    if (count < 0 && errno != EINTR) {
      return no_answer(mount, errno);
    }
    sent += static_cast<std::size_t>(std::max<ssize_t>(count, 0));
  }
  return {};
}

enum class Until { HangUp, EndOfLine };

Outcome<std::string> exchange(int fd, const MountEntry& mount, const std::string& line,
                              Until until) {
  LFS_TRY(send_all(fd, mount, line));
  std::string out;
  std::array<char, 64 * 1024> buffer{};
  while (out.size() < kMostBytes) {
    const ssize_t count = ::recv(fd, buffer.data(), buffer.size(), 0);
    if (count == 0) {
      break;
    }
    if (count < 0 && errno != EINTR) {
      return no_answer(mount, errno);
    }
    out.append(buffer.data(), static_cast<std::size_t>(std::max<ssize_t>(count, 0)));
    if (until == Until::EndOfLine && out.ends_with('\n')) {
      break;
    }
  }
  while (!out.empty() && out.back() == '\n') {
    out.pop_back();
  }
  if (out.empty()) {
    return refused(mount);
  }
  return out;
}

}  // namespace

bool daemon_is_dead(const MountEntry& mount) {
  const uid_t owner = mount_owner(mount);
  if (::geteuid() != 0 || owner == 0) {
    return is_not_connected(mount);
  }
  // Whoever the mount is not open to, root too, is told nothing about it.
  const pid_t child = ::fork();
  if (child == 0) {
    const gid_t group = mount_group(mount);
    const bool is_owner =
        ::setresgid(group, group, group) == 0 && ::setresuid(owner, owner, owner) == 0;
    ::_exit(is_owner && is_not_connected(mount) ? 1 : 0);
  }
  int status = 0;
  while (child > 0 && ::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return child > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 1;
}

std::string control_socket_name(unsigned major, unsigned minor) {
  return "layerfs/" + std::to_string(major) + ":" + std::to_string(minor);
}

Outcome<ControlReply> ask_daemon(const MountEntry& mount, const ControlRequest& request) {
  LFS_ASSIGN(const UniqueFd fd, connect_to(mount, request.patience));
  ControlReply reply;
  LFS_ASSIGN(reply.server, trusted_peer(fd.get(), mount));
  LFS_ASSIGN(reply.text, exchange(fd.get(), mount, request.line + "\n", Until::HangUp));
  return reply;
}

Outcome<nlohmann::json> ask_daemon_json(const MountEntry& mount, const ControlRequest& request) {
  LFS_ASSIGN(const ControlReply reply, ask_daemon(mount, request));
  auto document = nlohmann::json::parse(reply.text, nullptr, /*allow_exceptions=*/false);
  if (!document.is_object()) {
    return failed("'" + mount.mount_point +
                  "': the daemon's answer is not JSON; are layerfs and layerfsd of one version?");
  }
  return document;
}

Outcome<std::unique_ptr<ControlTalk>> ControlTalk::open(const MountEntry& mount) {
  LFS_ASSIGN(UniqueFd fd, connect_to(mount, ControlRequest().patience));
  LFS_TRY(trusted_peer(fd.get(), mount));
  return std::unique_ptr<ControlTalk>(new ControlTalk(mount, std::move(fd)));
}

Outcome<nlohmann::json> ControlTalk::ask(const std::string& line) {
  LFS_ASSIGN(const std::string text, exchange(fd_.get(), mount_, line + "\n", Until::EndOfLine));
  auto document = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!document.is_object()) {
    return failed("'" + mount_.mount_point +
                  "': the daemon's answer is not JSON; are layerfs and layerfsd of one version?");
  }
  if (document.contains("error")) {
    return failed("'" + mount_.mount_point + "': " + document.value("message", "refused"));
  }
  return document;
}

Outcome<Located> locate_layerfs(const std::string& path, LastComponent last) {
  LFS_ASSIGN(Located located, locate(path, last));
  if (!is_layerfs(located.mount)) {
    return failed("'" + path + "' is not on a layerfs mount but on " + located.mount.type +
                  " mounted at " + located.mount.mount_point);
  }
  return located;
}

}  // namespace layerfs
