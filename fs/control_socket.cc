#include "fs/control_socket.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <system_error>

namespace layerfs {
namespace {

constexpr int kBacklog = 8;
constexpr int kBindTries = 50;
constexpr std::chrono::milliseconds kBindPause{20};
constexpr std::size_t kMaxRequestBytes = 64 * 1024;
// A peer that sends no whole line in this time is not served.
constexpr struct timeval kPeerTimeout = {5, 0};

bool is_trusted(int peer) {
  ucred credentials{};
  socklen_t size = sizeof(credentials);
  return ::getsockopt(peer, SOL_SOCKET, SO_PEERCRED, &credentials, &size) == 0 &&
         (credentials.uid == 0 || credentials.uid == ::geteuid());
}

bool send_all(int peer, const std::string& bytes) {
  for (std::size_t sent = 0; sent < bytes.size();) {
    const ssize_t n = ::send(peer, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (n <= 0) {
      return false;
    }
    sent += static_cast<std::size_t>(n);
  }
  return true;
}

}  // namespace

ControlSocket::ControlSocket(UniqueFd listener, UniqueFd stop, Handler handler)
    : listener_(std::move(listener)), stop_(std::move(stop)), handler_(std::move(handler)) {
  thread_ = std::thread([this] { serve(); });
}

Result<std::unique_ptr<ControlSocket>> ControlSocket::open(dev_t device, Handler handler) {
  UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  UniqueFd stop(::eventfd(0, EFD_CLOEXEC));
  if (!listener || !stop) {
    return Errno::last();
  }
  const std::string name =
      "layerfs/" + std::to_string(major(device)) + ":" + std::to_string(minor(device));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path + 1, name.data(), name.size());
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  const auto bind = [&] {
    return ::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), size) == 0;
  };
  for (int tries = 1; !bind(); ++tries) {
    if (errno != EADDRINUSE || tries == kBindTries) {
      return Errno::last();
    }
    // The daemon of a mount that is just gone, whose device number this one got.
    std::this_thread::sleep_for(kBindPause);
  }
  if (::listen(listener.get(), kBacklog) < 0) {
    return Errno::last();
  }
  try {
    return std::unique_ptr<ControlSocket>(
        new ControlSocket(std::move(listener), std::move(stop), std::move(handler)));
  } catch (const std::system_error& error) {
    return Errno(error.code().value());
  }
}

ControlSocket::~ControlSocket() {
  const std::uint64_t one = 1;
  if (::write(stop_.get(), &one, sizeof(one)) != sizeof(one)) {
    std::abort();  // an eventfd takes a one
  }
  thread_.join();
  if (talk_.joinable()) {
    talk_.join();
  }
}

void ControlSocket::serve() {
  std::array<pollfd, 2> waits = {pollfd{listener_.get(), POLLIN, 0},
                                 pollfd{stop_.get(), POLLIN, 0}};
  for (;;) {
    if (::poll(waits.data(), waits.size(), -1) < 0 && errno != EINTR) {
      return;
    }
    if (waits[1].revents != 0) {
      return;
    }
    if (waits[0].revents == 0) {
      continue;
    }
    UniqueFd peer(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (peer && is_trusted(peer.get())) {
      answer(std::move(peer));
    }
  }
}

void ControlSocket::answer(UniqueFd peer) {
  ::setsockopt(peer.get(), SOL_SOCKET, SO_RCVTIMEO, &kPeerTimeout, sizeof(kPeerTimeout));
  ::setsockopt(peer.get(), SOL_SOCKET, SO_SNDTIMEO, &kPeerTimeout, sizeof(kPeerTimeout));
  std::string request;
  std::array<char, 4096> buffer{};
  while (request.find('\n') == std::string::npos && request.size() < kMaxRequestBytes) {
    const ssize_t n = ::recv(peer.get(), buffer.data(), buffer.size(), 0);
    if (n <= 0) {
      break;
    }
    request.append(buffer.data(), static_cast<std::size_t>(n));
  }
  request.resize(std::min(request.find('\n'), request.size()));
  if (handler_.is_talk(request)) {
    begin_talk(std::move(peer));
  } else {
    send_all(peer.get(), handler_.answer(request) + "\n");
  }
}

void ControlSocket::begin_talk(UniqueFd peer) {
  if (talking_) {
    send_all(peer.get(), handler_.busy + "\n");
    return;
  }
  if (talk_.joinable()) {
    talk_.join();
  }
  talking_ = true;
  try {
    talk_ = std::thread([this, held = std::move(peer)] {
      ControlPeer talker(held.get(), stop_.get());
      handler_.talk(talker);
      talking_ = false;
    });
  } catch (const std::system_error&) {
    talking_ = false;  // the client sees that it is hung up on
  }
}

std::optional<std::string> ControlPeer::receive(std::chrono::steady_clock::time_point deadline) {
  std::array<pollfd, 2> waits = {pollfd{peer_, POLLIN, 0}, pollfd{stop_, POLLIN, 0}};
  std::array<char, 512> buffer{};
  for (;;) {
    if (const std::size_t end = waiting_.find('\n'); end != std::string::npos) {
      std::string line = waiting_.substr(0, end);
      waiting_.erase(0, end + 1);
      return line;
    }
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0 || waiting_.size() > kMaxRequestBytes) {
      return std::nullopt;
    }
    if (::poll(waits.data(), waits.size(), static_cast<int>(left.count())) < 0) {
      if (errno == EINTR) {
        continue;
      }
      return std::nullopt;
    }
    if (waits[1].revents != 0) {
      return std::nullopt;
    }
    if (waits[0].revents != 0) {
      const ssize_t n = ::recv(peer_, buffer.data(), buffer.size(), 0);
      if (n <= 0) {
        return std::nullopt;
      }
      waiting_.append(buffer.data(), static_cast<std::size_t>(n));
    }
  }
}

bool ControlPeer::send(const std::string& line) { return send_all(peer_, line + "\n"); }

}  // namespace layerfs
