#include "tools/run/channel.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>

namespace layerfs::run {
namespace {

constexpr std::size_t kMostText = 32 * 1024;

struct Header {
  Word word;
  std::int64_t number;
};

}  // namespace

Outcome<std::pair<Channel, Channel>> Channel::pair() {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) < 0) {
    return failed("cannot make a socket pair: " + describe(Errno::last()));
  }
  return std::pair(Channel(UniqueFd(ends[0])), Channel(UniqueFd(ends[1])));
}

bool Channel::send(Word word, std::int64_t number, const std::string& text, int fd) const {
  Header header{word, number};
  std::string copy = text.substr(0, kMostText);
  std::array<iovec, 2> parts{{{&header, sizeof header}, {copy.data(), copy.size()}}};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = parts.size();
  if (fd >= 0) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(rights), &fd, sizeof fd);
  }
  ssize_t done = 0;
  do {
    done = ::sendmsg(fd_.get(), &message, MSG_NOSIGNAL);
  } while (done < 0 && errno == EINTR);
  return done >= 0;
}

std::optional<Message> Channel::receive() const {
  Header header{};
  const auto text = std::make_unique_for_overwrite<char[]>(kMostText);
  std::array<iovec, 2> parts{{{&header, sizeof header}, {text.get(), kMostText}}};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = parts.size();
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ssize_t count = 0;
  do {
    count = ::recvmsg(fd_.get(), &message, MSG_CMSG_CLOEXEC);
  } while (count < 0 && errno == EINTR);
  if (count < static_cast<ssize_t>(sizeof header)) {
    return std::nullopt;
  }
  Message out{header.word,
              header.number,
              std::string(text.get(), static_cast<std::size_t>(count) - sizeof header),
              {}};
  const cmsghdr* rights = CMSG_FIRSTHDR(&message);
  if (rights != nullptr && rights->cmsg_type == SCM_RIGHTS) {
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(rights), sizeof fd);
    out.fd.reset(fd);
  }
  return out;
}

}  // namespace layerfs::run
